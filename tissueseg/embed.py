"""`python -m tissueseg.embed …`: features of every tissue, encoded once, where `train` finds them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from tissueseg.command import USER_ERROR, one_line, plain, run_command, task_words
from tissueseg.errors import ConfigError, SpecMismatchError, StoreNotFoundError
from tissueseg.numbers import check_whole
from tissueseg.ranks import ranks_to_start, start_ranks
from tissueseg.resuming import requeue
from tissueseg.store.processes import end_with_starter
from tissueseg.workers import shared_console, stoppable

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from tissueseg.data.normalise import Normaliser
    from tissueseg.encoders.base import Encoder
    from tissueseg.modules.embedding import Outcome, Tissue
    from tissueseg.reporting.progress import Progress
    from tissueseg.store.embedding_writer import EmbeddingWriter
    from tissueseg.store.embeddings import EmbeddingStore
    from tissueseg.store.tissues import TissueStore

ON_ERROR = ("stop", "skip")


def embed(config: DictConfig) -> None:
    """Encode what is missing, here or on as many devices as were asked for."""
    from tissueseg import preflight
    from tissueseg.augmentations import refuse_altering
    from tissueseg.devices import own_device

    if config.features in preflight.FEATURES:
        config.features = "online"  # the encoder is needed, and so are its weights
    preflight.check(config)
    preflight.check_machine(config)
    refuse_altering(config, "embed", ", or views.extra=… for altered copies")
    _check(config)
    if count := ranks_to_start(config):
        if worst := start_ranks("tissueseg.embed", task_words(), count, together=False):
            sys.exit(worst)
        return
    with stoppable(requeue if config.state.requeue else lambda: None):
        failed = _encode(config, own_device(config), shared_console())
    if failed:
        sys.exit(USER_ERROR)


def _encode(config: DictConfig, device: torch.device, console: Console) -> bool:
    """Encode on one device; whether a tissue had to be left out."""
    import torch

    from tissueseg import assembly
    from tissueseg.contracts import check_tiles
    from tissueseg.data.datamodule import data_spec
    from tissueseg.data.images import TileImages
    from tissueseg.data.normalise import Normaliser
    from tissueseg.data.views import Views
    from tissueseg.devices import autocast_of
    from tissueseg.features import build_encoder, find_stored
    from tissueseg.modules.embedding import Embedder
    from tissueseg.preflight import modality_of
    from tissueseg.reporting.progress import Progress
    from tissueseg.store.embedding_folder import unfinished_bytes
    from tissueseg.store.embedding_writer import EmbeddingWriter
    from tissueseg.store.fingerprint import Check

    if device.type == "cuda":
        torch.cuda.set_device(device)  # else device 0 is woken for pinned memory too
    store, modality = assembly.open_store(config, console), modality_of(config)
    store.require(modality)
    split, tile_px = assembly.open_split(config, store), config.data.tile_px
    config.embeddings.check = Check.STRICT.value  # just what was asked for
    found = find_stored(config, store, split)
    if not isinstance(found, str) and not unfinished_bytes(Path(found.store.path)):
        console.print(f"all tissues are complete already: {found.store.path}", soft_wrap=True)
        return False
    encoder = build_encoder(config, data_spec(store, modality, tile_px))
    check_tiles(encoder.spec, tile_px, store.mpp)
    normaliser = Normaliser.fit(store, split.train, modality, encoder.spec.normalisation)
    tissues = _tissues(config, store, sorted(t for side in split for t in side))
    stored = _open_store(config, store, encoder, normaliser)
    _refuse_other_cohort(stored, store, tissues)
    console.print(f"features: {stored.path}", highlight=False, soft_wrap=True)
    for line in encoder.describe():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    images = TileImages(store, [t.name for t in tissues], normaliser, tile_px, encoder.spec.halo_px)
    with (
        EmbeddingWriter(stored, config.embeddings.codec) as writer,
        Progress(console, sum(len(t.cover) for t in tissues)) as progress,
    ):
        embedder = Embedder(
            encoder,
            images,
            Views(**plain(config.views)),
            writer,
            device=device,
            autocast=autocast_of(config.trainer.precision),
            batch_size=config.batch_size,
            threads=config.threads or min(os.cpu_count() or 1, 8),
            tell=progress.tell,
        )
        outcome = embedder.run(tissues, config.on_error == "skip", config.wait)
    _report(outcome, progress, writer, console)
    return bool(outcome.failed)


def _check(config: DictConfig) -> None:
    if config.on_error not in ON_ERROR:
        raise ConfigError(f"on_error={config.on_error}, wanted {' or '.join(ON_ERROR)}.")
    if not isinstance(config.wait, bool):
        raise ConfigError(f"wait={config.wait}, wanted true or false.")
    check_whole("batch_size", config.batch_size, 1)
    if config.threads is not None:
        check_whole("threads", config.threads, 1)
    if "://" in str(config.embeddings.path or ""):
        raise ConfigError(
            f"embeddings.path={config.embeddings.path}: embed writes to a local folder. Copy the store "
            "there when it is complete."
        )


def _tissues(config: DictConfig, store: TissueStore, names: Sequence[str]) -> list[Tissue]:
    from tissueseg.features import tile_cover
    from tissueseg.modules.embedding import Tissue
    from tissueseg.preflight import modality_of

    modality = modality_of(config)
    found = (
        Tissue(name, tile_cover(config, store, name), store.image_digests(name, modality))
        for name in names
    )
    return [tissue for tissue in found if len(tissue.cover)]


def _open_store(
    config: DictConfig, store: TissueStore, encoder: Encoder, normaliser: Normaliser
) -> EmbeddingStore:
    """The store that holds just what this command would encode; made if it is not there."""
    from tissueseg.feature_fields import file_digests, store_name, wanted_fields
    from tissueseg.features import features_folder
    from tissueseg.reporting.runs import environment
    from tissueseg.store.embedding_folder import SUFFIX
    from tissueseg.store.embedding_writer import Grid, create_store
    from tissueseg.store.fingerprint import fingerprint

    spec, tokens = encoder.spec, config.data.tile_px // encoder.stride_px
    if len(set(spec.channels)) > 1:
        raise SpecMismatchError(
            f"encoder={spec.name} has levels of {list(spec.channels)} channels, wanted equal ones: its "
            "features cannot be stored. Train with features=online."
        )
    fields = wanted_fields(config, store, normaliser, file_digests(config, store))
    folder = Path(features_folder(config, store))
    named = folder.name.endswith(SUFFIX)
    path = folder if named else folder / store_name(spec, config, fingerprint(fields))
    made = {"store": store.location, "by": environment()}
    grid = Grid(len(spec.channels), tokens, tokens, spec.channels[0])
    try:
        return create_store(path, fields, spec, grid, made)
    except StoreNotFoundError as error:
        raise StoreNotFoundError(
            f"{str(error).rstrip('.')}. Something else stands in the way: give embeddings.path=… a path "
            "that is free, or a folder of stores."
        ) from error


def _refuse_other_cohort(
    stored: EmbeddingStore, store: TissueStore, tissues: Sequence[Tissue]
) -> None:
    """Two cohorts that share a folder must not replace each other's tissues of one name."""
    from tissueseg.store.embeddings import State

    other = str(stored.made.get("store"))
    if other == store.location or not (Path(other) / "zarr.json").is_file():
        return
    states = stored.states({tissue.name: tissue.digests for tissue in tissues})
    if stale := [name for name, state in states.items() if state == State.STALE]:
        raise SpecMismatchError(
            f"{stored.path} holds features of {other}, with other images of {len(stale)} tissues of the "
            f"same names ({', '.join(stale[:3])}): give this cohort an embeddings.path of its own."
        )


def _report(
    outcome: Outcome, progress: Progress, writer: EmbeddingWriter, console: Console
) -> None:
    written = writer.written
    if outcome.encoded:
        rate = written.bytes / max(written.seconds, 1e-9) / 1e9
        console.print(
            f"encoded {len(outcome.encoded)} tissues in {progress.seconds:.1f} s: "
            f"{progress.rate:.1f} tiles/s, {written.bytes / 1e9:.2f} GB written at {rate:.2f} GB/s",
            highlight=False,
        )
    for names, what in (
        (outcome.kept, "complete already"),
        (outcome.elsewhere, "other workers are at: not waited for"),
    ):
        if names:
            console.print(f"{len(names)} tissues {what}", highlight=False)
    for error in outcome.failed.values():
        print(f"error: {one_line(error)}", file=sys.stderr)
    if outcome.failed:
        print(f"error: {len(outcome.failed)} tissues have no features.", file=sys.stderr)


if __name__ == "__main__":
    end_with_starter()
    run_command("embed", embed)
