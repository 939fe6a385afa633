"""What one pre-training is made of: everything is opened and checked before its folder is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg import __version__, assembly, preflight
from tissueseg.agreement import check_tiles
from tissueseg.building import build, finish
from tissueseg.composition import plain
from tissueseg.contracts import DataSpec, EncoderSpec, MarkerLookup, Modality
from tissueseg.data.datamodule import data_spec
from tissueseg.data.feeding import Loading
from tissueseg.data.image_tiles import ImageTiles, Source
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.views import Views
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.weights import check_source
from tissueseg.errors import ConfigError
from tissueseg.features import build_encoder
from tissueseg.modules.checkpoint import run_name
from tissueseg.modules.image_data import ImageDataModule
from tissueseg.modules.pretraining import PretrainingModule
from tissueseg.modules.tracking import check_tracking
from tissueseg.numbers import check_number, check_whole
from tissueseg.optimisation import check_optimizer
from tissueseg.options import check_encoder_options
from tissueseg.pretraining.autoencoder import MaskedAutoencoder
from tissueseg.reporting import runs
from tissueseg.reporting.fingerprint import fingerprint
from tissueseg.resuming import default_folder
from tissueseg.store.tissues import TissueStore
from tissueseg.tensorfile import read_tensors
from tissueseg.trainer import build_trainer

if TYPE_CHECKING:
    from tissueseg.ranks import Rank

_DTYPES = ("float32", "float16", "bfloat16")
KEPT_DTYPES = ("float32", "bfloat16", "float16")

_COLOURS = ("red", "green", "blue")
_WHOLE_NUMBERS = {
    "epochs": 1,
    "score_tiles": 0,
    "data.tile_px": 1,
    "data.batch_size": 1,
    "data.num_workers": 0,
    "data.prefetch": 1,
    "panels.count": 0,
    "panels.every_n_epochs": 1,
}


class Vocabulary(NamedTuple):
    """The markers that any store has."""

    names: tuple[str, ...]
    vectors: torch.Tensor | None  # (P, width) float32; None: the images are H&E


@dataclass(frozen=True)
class PretrainingParts:
    """What one pre-training is made of, opened and checked."""

    name: str
    config: DictConfig
    stores: tuple[TissueStore, ...]
    splits: tuple[Split, ...]
    vocabulary: Vocabulary
    data: ImageDataModule
    module: PretrainingModule
    notes: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Which encoder, data, splits and stores it is made of."""
        spec = self.module.autoencoder.encoder.spec
        digests: dict[str, dict[str, str]] = {}
        for number, (store, split) in enumerate(zip(self.stores, self.splits, strict=True)):
            lead = f"{number}/" if number else ""  # tissues of several stores may have one name
            for side, tissues in (("train", split.train), ("val", split.val)):
                if tissues:
                    found = store.digests(tissues).items()
                    digests.setdefault(side, {}).update({lead + t: d for t, d in found})
        return {
            "encoder": spec.as_dict(),
            "weights": list(self.notes),
            "data": {"tile_px": self.config.data.tile_px, "markers": self.vocabulary.names},
            "split": [split._asdict() for split in self.splits],
            "store": [store.location for store in self.stores],
            "digests": {t: digest for side in digests.values() for t, digest in side.items()},
            "fingerprint": fingerprint(plain(self.config), spec.sha256, digests, __version__),
        }

    def keep_split(self) -> str:
        """Name the splits in their stores; a line on that."""
        pairs = zip(self.stores, self.splits, strict=True)
        return "; ".join(assembly.name_split(self.config, *pair) for pair in pairs)


def open_parts(
    config: DictConfig, named: Path | None, rank: Rank | None, console: Console
) -> PretrainingParts:
    """Build everything, before anything is written but what the stores keep of themselves.

    Args:
        config: as composed, or as a run that goes on has kept it.
        named: folder of a run that goes on.
        rank: of this process; None: it is alone.
        console: where progress goes.
    """
    spec = _check(config)
    name = run_name(config.name, config.modality, spec.label)
    runs.check_writable(named or default_folder(config, name))
    modality = preflight.modality_of(config)
    stores = _open_stores(config, modality, console)
    splits = tuple(assembly.open_split(config, store) for store in stores)
    for store, split in zip(stores, splits, strict=True):
        store.check_arrays([*split.train, *split.val], modality)
    _settle_paths(config)
    seed_everything(config.seed, workers=True, verbose=False)
    encoder = build_encoder(config, _own_scale(config, spec, stores[0], modality))
    check_tiles(encoder.spec, config.data.tile_px, encoder.spec.mpp)
    found = [_markers(config, store, modality) for store in stores]
    vocabulary, rows = _vocabulary(found, modality)
    autoencoder, notes = _autoencoder(config, encoder, vocabulary)
    sides: dict[str, ImageTiles | None] = {}
    for side in ("train", "val"):
        chosen = zip(stores, splits, found, rows, strict=True)
        sources = [
            _source(config, encoder.spec, modality, store, split, side, channels.places, own)
            for store, split, channels, own in chosen
            if getattr(split, side)
        ]
        sides[side] = _tiles(config, sources, autoencoder, side)
    train = sides["train"]
    if train is None:
        raise ConfigError("split leaves no tissues to train on: change split.train.")
    loading = Loading(**plain(config.data), seed=config.seed)
    data = ImageDataModule(train, sides["val"], loading, Views(**plain(config.views)))
    tissues = {side: tiles.tissues for side, tiles in sides.items() if tiles}
    optimizer, scheduler = build(config.optim.optimizer), build(config.optim.scheduler)
    module = PretrainingModule(autoencoder, tissues, optimizer, scheduler)
    finish("optim", module.configure_optimizers)
    build_trainer(config, console, [], rank=rank)  # lacks it a GPU, it says so now
    return PretrainingParts(name, config, stores, splits, vocabulary, data, module, notes)


def _check(config: DictConfig) -> EncoderSpec:
    """Check numbers and choices; what is cheap comes first."""
    for key, lowest in _WHOLE_NUMBERS.items():
        check_whole(key, OmegaConf.select(config, key), lowest)
    check_whole("seed", config.seed, 0, 2**32 - 1)
    preflight.check_processes(config)
    check_encoder_options(config)
    spec: EncoderSpec = build(config.encoder.spec)
    modality = preflight.modality_of(config)
    if modality not in spec.modalities:
        raise ConfigError(
            f"encoder={spec.name} sees {', '.join(m.value for m in spec.modalities)}, but "
            f"modality={modality.value}: choose another of the two."
        )
    if "weights" not in config.encoder:
        raise ConfigError(
            f"encoder={spec.name} loads no weights, so that nothing could use what it learns: choose "
            "virtues, virtues_demo, vit_demo or a ViT of CellViT."
        )
    check_source(config.encoder.weights, f"encoder={spec.name}", spec.random_init)
    if config.trainer.precision not in preflight.PRECISIONS:
        raise ConfigError(
            f"trainer.precision={config.trainer.precision}, wanted {', '.join(preflight.PRECISIONS)}."
        )
    _check_kept(config)
    preflight.check_machine(config)
    if (clip := config.trainer.get("gradient_clip_val")) is not None:
        check_number("trainer.gradient_clip_val", clip, lowest=0, note="null for none")
    if not OmegaConf.is_list(config.more_stores) or not all(
        isinstance(path, str) for path in config.more_stores
    ):
        raise ConfigError(
            f"more_stores={config.more_stores}, wanted a list of paths: [a.zarr,b.zarr]."
        )
    if config.kept.dtype not in _DTYPES or not isinstance(config.kept.decoder, bool):
        raise ConfigError(
            f"kept={plain(config.kept)}, wanted dtype: {' or '.join(_DTYPES)}, and decoder: true or "
            "false."
        )
    check_tracking(plain(config.logger))
    check_optimizer(config)
    build(config.split).check_files()
    return spec


def _check_kept(config: DictConfig) -> None:
    """Check what the encoder's file is to hold, which is written when all is done."""
    kept = config.kept
    if kept.dtype not in KEPT_DTYPES:
        raise ConfigError(f"kept.dtype={kept.dtype}, wanted {', '.join(KEPT_DTYPES)}.")
    if not isinstance(kept.decoder, bool):
        raise ConfigError(f"kept.decoder={kept.decoder}, wanted true or false.")


def _open_stores(
    config: DictConfig, modality: Modality, console: Console
) -> tuple[TissueStore, ...]:
    more = (TissueStore(path) for path in config.more_stores)
    stores = (assembly.open_store(config, console), *more)
    for store in stores:
        store.require(modality)
    return stores


def _settle_paths(config: DictConfig) -> None:
    """Make local paths absolute, so that the saved config can be used from anywhere."""
    for node, key in (
        (config.encoder, "weights"),
        (config.markers, "table"),
        (config.store, "path"),
        (config.split, "table"),
    ):
        if (value := node.get(key)) and "://" not in str(value):
            node[key] = str(Path(value).expanduser().resolve())
    config.more_stores = [
        p if "://" in p else str(Path(p).expanduser().resolve()) for p in config.more_stores
    ]


def _own_scale(
    config: DictConfig, spec: EncoderSpec, store: TissueStore, modality: Modality
) -> DataSpec:
    """What the encoder is shown: tiles at its own scale."""
    found = data_spec(store, modality, config.data.tile_px)
    return replace(found, mpp=spec.mpp or found.mpp)


class _Found(NamedTuple):
    """A store's channels that are learnt from."""

    places: tuple[int, ...]
    names: tuple[str, ...]
    vectors: np.ndarray | None


def _markers(config: DictConfig, store: TissueStore, modality: Modality) -> _Found:
    if modality != Modality.SP:
        return _Found((0, 1, 2), _COLOURS, None)
    lookup: MarkerLookup = build(config.encoder.markers)
    found = lookup(store.panel)
    names = tuple(store.panel[place].name for place in found.channels)
    return _Found(found.channels, names, np.asarray(found.vectors, np.float32))


def _vocabulary(
    found: Sequence[_Found], modality: Modality
) -> tuple[Vocabulary, list[tuple[int, ...]]]:
    """All markers, each once, and the rows of each store's; the first store to have one names it."""
    if modality != Modality.SP:
        return Vocabulary(_COLOURS, None), [(0, 1, 2)] * len(found)
    row: dict[bytes, int] = {}
    names, vectors, rows = list[str](), list[np.ndarray](), list[tuple[int, ...]]()
    for store in found:
        assert store.vectors is not None
        for name, vector in zip(store.names, store.vectors, strict=True):
            if vector.tobytes() not in row:
                row[vector.tobytes()] = len(names)
                names.append(name)
                vectors.append(vector)
        rows.append(tuple(row[vector.tobytes()] for vector in store.vectors))
    return Vocabulary(tuple(names), torch.from_numpy(np.stack(vectors))), rows


def _autoencoder(
    config: DictConfig, encoder: Encoder, vocabulary: Vocabulary
) -> tuple[MaskedAutoencoder, tuple[str, ...]]:
    """With the decoder that a file of a pre-training holds, and lines on where weights come from."""
    notes = encoder.describe()
    given = {} if vocabulary.vectors is None else {"vectors": vocabulary.vectors}
    partial = build(config.autoencoder)
    autoencoder: MaskedAutoencoder = finish("autoencoder", partial, encoder=encoder, **given)
    if config.encoder.weights is not None:
        notes.append(autoencoder.adopt(read_tensors(config.encoder.weights).tensors))
    return autoencoder, tuple(notes)


def _source(
    config: DictConfig,
    spec: EncoderSpec,
    modality: Modality,
    store: TissueStore,
    split: Split,
    side: str,
    places: tuple[int, ...],
    rows: tuple[int, ...],
) -> Source:
    """A store's part of one side."""
    normaliser = Normaliser.fit(store, split.train, modality, spec.normalisation)
    scale = 1.0 if spec.mpp is None or store.mpp is None else spec.mpp / store.mpp
    read_px = max(round(config.data.tile_px * scale), 1)
    return Source(store, getattr(split, side), normaliser, places, rows, read_px)


def _tiles(
    config: DictConfig, sources: Sequence[Source], autoencoder: MaskedAutoencoder, side: str
) -> ImageTiles | None:
    if not sources:
        return None
    views = {"views": Views(**plain(config.views))} if side == "train" else {}
    return ImageTiles(sources, config.data.tile_px, autoencoder.hide, **views, seed=config.seed)
