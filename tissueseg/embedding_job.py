"""Encoding what stored features lack: the work of `embed`, and of a training that makes its own.

It is the same work in both, so that features are the same whoever made them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg import features
from tissueseg.agreement import check_tiles
from tissueseg.composition import one_line, plain
from tissueseg.config import CONFIG_DIR
from tissueseg.data.datamodule import data_spec
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.views import Views
from tissueseg.devices import autocast_of, own_device
from tissueseg.encoders.base import Encoder
from tissueseg.errors import (
    RunFolderError,
    SpecMismatchError,
    StoreNotFoundError,
    StoreWriteError,
    in_one_line,
)
from tissueseg.feature_fields import file_digests, store_name, wanted_fields
from tissueseg.modules.embedding import Embedder, Outcome, Tissue
from tissueseg.preflight import modality_of
from tissueseg.reporting.progress import Progress
from tissueseg.reporting.runs import check_writable, environment
from tissueseg.store.embedding_folder import SUFFIX, unfinished_bytes
from tissueseg.store.embedding_writer import EmbeddingWriter, Grid, create_store
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.fingerprint import Check, fingerprint
from tissueseg.store.remote import is_remote
from tissueseg.store.tissues import TissueStore

_UNSTORED = (RunFolderError, SpecMismatchError, StoreNotFoundError, StoreWriteError)
"""What is raised where features cannot be stored; what is wrong with the encoder is raised online too."""


class Encoded(NamedTuple):
    """What came of an encoding."""

    path: str  # of the store of features
    failed: bool  # a tissue had to be left out


def encode_missing(
    config: DictConfig, store: TissueStore, split: Split, device: torch.device, console: Console
) -> Encoded:
    """Encode on one device what the features of a split lack.

    Args:
        config: of `embed`; its `embeddings.check` is set.
        store: of tissues.
        split: whose tissues need features.
        device: that computes.
        console: where progress goes.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else device 0 is woken for pinned memory too
    modality, tile_px = modality_of(config), config.data.tile_px
    config.embeddings.check = Check.STRICT.value  # just what was asked for
    found = features.find_stored(config, store, split)
    if not isinstance(found, str) and not unfinished_bytes(Path(found.store.path)):
        console.print(f"all tissues are complete already: {found.store.path}", soft_wrap=True)
        return Encoded(found.store.path, False)
    encoder = features.build_encoder(config, data_spec(store, modality, tile_px))
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
    return Encoded(stored.path, bool(outcome.failed))


def make_features(
    config: DictConfig, store: TissueStore, split: Split, console: Console, reason: str
) -> tuple[str, ...]:
    """Encode what a training lacks, before it begins, as `embed` does unless told otherwise.

    Args:
        config: of the training, left as it is.
        store: of tissues.
        split: whose tissues need features.
        console: where progress goes.
        reason: why no stored features serve.

    Returns:
        Lines on what came of it; none: nothing says where features would stand.

    Raises:
        TissuesegError: features=stored, and they cannot be stored.
    """
    if is_remote(store.address) and not config.embeddings.path:
        return ()
    try:
        refuse_remote(config)
        folder = Path(features.features_folder(config, store))
        check_writable(folder.parent if folder.name.endswith(SUFFIX) else folder, "embeddings.path")
        made = encode_missing(_as_embed(config), store, split, own_device(config), console)
    except _UNSTORED as error:
        if config.features == "stored":
            raise
        return (f"notice: features are not stored: {in_one_line(error)}",)
    return (f"features: encoded before training, since {reason}, and stored in {made.path}",)


def refuse_remote(config: DictConfig) -> None:
    """Refuse to write features to an address.

    Raises:
        StoreWriteError: naming it.
    """
    if "://" in str(config.embeddings.path or ""):
        raise StoreWriteError(
            f"embeddings.path={config.embeddings.path}: embed writes to a local folder. Copy the store "
            "there when it is complete."
        )


def _as_embed(config: DictConfig) -> DictConfig:
    """A training's configuration as `embed` would have it, whose own options are not given."""
    own = OmegaConf.load(CONFIG_DIR / "embed.yaml")
    options = {key: value for key, value in plain(own).items() if key != "defaults"}
    given = config.copy()
    OmegaConf.set_struct(given, False)
    given.update(options, features="online")  # the encoder is needed, and so are its weights
    return given


def _tissues(config: DictConfig, store: TissueStore, names: Sequence[str]) -> list[Tissue]:
    modality = modality_of(config)
    found = (
        Tissue(name, features.tile_cover(config, store, name), store.image_digests(name, modality))
        for name in names
    )
    return [tissue for tissue in found if len(tissue.cover)]


def _open_store(
    config: DictConfig, store: TissueStore, encoder: Encoder, normaliser: Normaliser
) -> EmbeddingStore:
    """The store that holds just what would be encoded; made if it is not there."""
    spec, tokens = encoder.spec, config.data.tile_px // encoder.stride_px
    if len(set(spec.channels)) > 1:
        raise SpecMismatchError(
            f"encoder={spec.name} has levels of {list(spec.channels)} channels, wanted equal ones: its "
            "features cannot be stored. Train with features=online."
        )
    fields = wanted_fields(config, store, normaliser, file_digests(config, store))
    folder = Path(features.features_folder(config, store))
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
