"""What can be refused before anything is opened: numbers, names and parts that do not fit.

Cheap by design: it builds specs and losses, no encoder and no decoder, and touches no disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tissueseg.agreement import check_composition, check_tiles
from tissueseg.augmentations import altering_parts, build_augmentation, refuse_altering
from tissueseg.building import build, finish, require_kind
from tissueseg.composition import plain
from tissueseg.contracts import EncoderSpec, Modality
from tissueseg.data.chances import Chances
from tissueseg.data.datamodule import TissueDataModule
from tissueseg.data.feeding import SHUFFLES, check_shuffle
from tissueseg.data.splits import SplitRule
from tissueseg.data.views import Views
from tissueseg.encoders.weights import check_source
from tissueseg.errors import ConfigError, SplitError
from tissueseg.heads import head_channels, scored_classes
from tissueseg.losses.class_weights import inverse_frequency
from tissueseg.losses.weighted_sum import WeightedSum
from tissueseg.numbers import check_number, check_whole, is_number
from tissueseg.optimisation import check_learning, check_optimizer, finetune_of
from tissueseg.options import check_encoder_options, encoder_nodes
from tissueseg.store.embedding_folder import folder_beside
from tissueseg.store.embedding_writer import CODECS
from tissueseg.store.embeddings import DTYPES
from tissueseg.store.fingerprint import Check
from tissueseg.tensorfile import HUB, check_local

FEATURES = ("auto", "online", "stored")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_WHOLE_NUMBERS = {
    "data.tile_px": (1, None),
    "data.batch_size": (1, None),
    "data.num_workers": (0, None),
    "data.prefetch": (1, None),
    "boundary.width_px": (1, None),
    "epochs": (0, None),
    "patience": (1, None),
    "seed": (0, 2**32 - 1),
    "panels.count": (0, None),
    "panels.size_px": (1, None),
    "panels.every_n_epochs": (1, None),
    "trainer.num_nodes": (1, None),
}


def check(config: DictConfig) -> EncoderSpec:
    """Check numbers, then encoder, modality, tiles, decoder and loss against each other."""
    _spell_out_views(config)
    for key, (lowest, highest) in _WHOLE_NUMBERS.items():
        check_whole(key, OmegaConf.select(config, key), lowest, highest)
    _check_values(config)
    check_processes(config)
    check_learning(config)
    check_encoder_options(config)
    spec = require_kind("encoder.spec", build(config.encoder.spec), EncoderSpec)
    _check_augmentation(config, spec)
    heads = list(config.decoder.heads)
    for head in heads:
        head_channels(head, n_classes=1)
    unweighted = OmegaConf.merge(config, {"class_weights": None})  # they may wait for the data
    loss = require_kind("loss", build(unweighted.loss), WeightedSum)
    check_composition(spec, modality_of(config), heads, loss.heads)
    _check_files(config)
    if config.store.path is None or not spec.scaled:  # else the store tells the scale
        if config.store.path is None and not OmegaConf.is_dict(config.store.demo):
            raise ConfigError(
                f"store.demo={config.store.demo}, wanted tissues, size_px, mpp and seed."
            )
        mpp = config.store.demo.mpp if config.store.path is None else None
        check_tiles(spec, config.data.tile_px, mpp)
    return spec


def modality_of(config: DictConfig) -> Modality:
    """The modality a config names."""
    try:
        return Modality(config.modality)
    except ValueError:
        known = ", ".join(m.value for m in Modality)
        raise ConfigError(f"modality={config.modality} is unknown: choose from {known}.") from None


def check_against_data(config: DictConfig, data: TissueDataModule) -> None:
    """Check what only the store can tell: that the monitored metric has something to measure."""
    classes = scored_classes(list(config.decoder.heads), data.store.classes)
    names = ["macro", "macro_foreground", *(c.name for c in classes)]
    known = [f"val/{score}/{name}" for score in ("dice", "iou") for name in names]
    if config.monitor not in known:
        raise ConfigError(f"monitor={config.monitor} is unknown: choose from {', '.join(known)}.")
    pixels = np.array(scored_pixels(config, data.store.class_pixels(data.split.val)))
    watched = names.index(config.monitor.split("/", 2)[2]) - 2
    if not (pixels[1:].any() if watched < 0 else pixels[watched]):
        raise SplitError(
            f"monitor={config.monitor}: the validation tissues {list(data.split.val)[:5]} hold none of "
            "it, so it could choose no epoch: change split.val or monitor."
        )


def scored_pixels(config: DictConfig, pixels: np.ndarray) -> list[int]:
    """Pixels of the scored classes, given those of the store's (n_classes,); typed nuclei alone count."""
    if "classes" in config.decoder.heads:
        return pixels.tolist()
    return [int(pixels[0]), int(pixels[1:].sum())]


def settle_class_weights(config: DictConfig, data: TissueDataModule) -> None:
    """Replace `class_weights=inverse_frequency` by the numbers, so that the saved config holds them."""
    if config.class_weights == "inverse_frequency":
        config.class_weights = inverse_frequency(data.train_pixels.tolist())
    weights, n_classes = config.class_weights, len(data.store.classes)
    if weights is None:
        return
    numbers = list(weights) if OmegaConf.is_list(weights) else []
    meant = all(is_number(w, 0) for w in numbers)
    if len(numbers) != n_classes or not meant or not any(numbers):
        raise ConfigError(
            f"class_weights={weights} cannot be used: give null, inverse_frequency or a list with one "
            f"number ≥ 0 per class ({n_classes}), background first."
        )


def check_machine(config: DictConfig) -> None:
    """Refuse a CUDA request on a machine that sees no CUDA device."""
    wants = config.trainer.accelerator
    if wants in ("gpu", "cuda") and not torch.cuda.is_available():
        built = f"torch {torch.__version__}" + (
            " has no CUDA build" if not torch.version.cuda else ""
        )
        raise ConfigError(
            f"trainer.accelerator={wants}, but {built} and sees no CUDA device: choose trainer=cpu, or "
            "mend driver and torch (python -m tissueseg.doctor)."
        )


def _check_files(config: DictConfig) -> None:
    """Weights must be named, or random ones asked for, and local files must be there.

    Stored features need none, where there are some.
    """
    for key, node in _weighted_nodes(config):
        if not node.random_init and _may_be_stored(config, node.weights):
            continue
        check_source(node.weights, f"{key}={node.spec.name}", node.random_init, key)
    if weights := config.decoder.get("weights"):
        check_local(weights)


def _may_be_stored(config: DictConfig, weights: str | None) -> bool:
    """Whether features may be there without weights; the store will tell."""
    if finetune_of(config).active:
        return False
    if config.features == "auto" and altering_parts(config):
        return False
    if config.features == "auto" and weights is None:
        beside = config.store.path and folder_beside(Path(config.store.path).resolve()).is_dir()
        return bool(config.embeddings.path or beside)
    return config.features == "stored"


def check_training(config: DictConfig) -> None:
    """Refuse a run that can neither train nor load a decoder, or a split that cannot be made."""
    if config.epochs == 0 and not config.decoder.get("weights"):
        raise ConfigError("epochs=0 scores a decoder as it was loaded: give decoder.weights=… too.")
    if config.epochs:
        check_optimizer(config)
    rule = require_kind("split", build(config.split), SplitRule)
    rule.check_files()


def settle_paths(config: DictConfig) -> None:
    """Make local paths absolute, so that the saved config can be used from anywhere."""
    nodes = [(node, "weights") for _, node in _weighted_nodes(config)]
    for node, key in (
        *nodes,
        (config.decoder, "weights"),
        (config.markers, "table"),
        (config.store, "path"),
        (config.embeddings, "path"),
        (config.split, "table"),
    ):
        if (value := node.get(key)) and not str(value).startswith(HUB) and "://" not in str(value):
            node[key] = str(Path(value).expanduser().resolve())


def _weighted_nodes(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """The encoders that load weights."""
    return ((key, node) for key, node in encoder_nodes(config) if "weights" in node)


def _spell_out_views(config: DictConfig) -> None:
    """`views=8` is short for eight dihedral ones."""
    if not OmegaConf.is_dict(config.views):
        OmegaConf.update(config, "views", Views(dihedral=config.views).as_dict(), force_add=True)


def _check_values(config: DictConfig) -> None:
    _check_features(config)
    for key in ("data.pin_memory", "data.drop_last"):
        if not isinstance(value := OmegaConf.select(config, key), bool):
            raise ConfigError(f"{key}={value}, wanted true or false.")
    _check_sampling(config)
    if not OmegaConf.is_dict(config.decoder.heads) or not config.decoder.heads:
        raise ConfigError(
            f"decoder.heads={config.decoder.heads}, wanted a name and options a head."
        )
    if config.trainer.precision not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision={config.trainer.precision}, wanted {', '.join(PRECISIONS)}."
        )
    if not OmegaConf.is_dict(config.markers):
        raise ConfigError(f"markers={config.markers}, wanted table, unmatched and duplicates.")
    for key in ("trainer.limit_train_batches", "trainer.limit_val_batches"):
        value = OmegaConf.select(config, key, default=1)
        check_number(key, value, above=0, note="batches, or a share of them")
    if (clip := config.trainer.get("gradient_clip_val")) is not None:
        check_number("trainer.gradient_clip_val", clip, lowest=0, note="null for none")
    try:
        _ = config.store.path, config.embeddings.path
    except OmegaConfBaseException:
        raise ConfigError(
            "the store is not named: give store.path=… or set TISSUESEG_STORE."
        ) from None


def check_processes(config: DictConfig) -> None:
    """What of several processes, and of going on, can be wrong."""
    if (share := config.data.get("at_a_time")) is not None:
        check_whole("data.at_a_time", share, 1, note="tiles, or null for all")
    for key in ("trainer.sync_batchnorm", "state.requeue"):
        if not isinstance(value := OmegaConf.select(config, key, default=True), bool):
            raise ConfigError(f"{key}={value}, wanted true or false.")
    if config.trainer.get("accumulate_grad_batches", 1) != 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches would change how many tiles make a step: choose "
            "data.batch_size, and data.at_a_time for those that a device holds at once."
        )
    every_s = OmegaConf.select(config, "state.every_s", default=0)
    check_number("state.every_s", every_s, lowest=0, note="seconds")


def _check_features(config: DictConfig) -> None:
    _check_views(config)
    if not OmegaConf.is_dict(config.embeddings):
        raise ConfigError(f"embeddings={config.embeddings}, wanted path, check, dtype and codec.")
    for key, known in (
        ("features", FEATURES),
        ("embeddings.check", tuple(Check)),
        ("embeddings.dtype", tuple(DTYPES)),
        ("embeddings.codec", CODECS),
        ("data.shuffle", SHUFFLES),
    ):
        if (value := OmegaConf.select(config, key)) not in known:
            raise ConfigError(f"{key}={value} is unknown: choose from {', '.join(known)}.")
    if not isinstance(make := config.embeddings.get("make", False), bool):
        raise ConfigError(f"embeddings.make={make}, wanted true or false.")


def _check_sampling(config: DictConfig) -> None:
    chances = build(config.sampling) if OmegaConf.is_dict(config.sampling) else None
    if not isinstance(chances, Chances):
        raise ConfigError(
            "sampling names no way of drawing tiles: choose sampling=natural, oversample or foreground."
        )
    check_shuffle(config.data.shuffle, chances.once)


def _check_augmentation(config: DictConfig, spec: EncoderSpec) -> None:
    if config.features == "stored":
        refuse_altering(config, "features=stored", " or features=online")
    build_augmentation(config, spec.halo_px).try_out()


def _check_views(config: DictConfig) -> None:
    views: Views = finish("views", Views, **plain(config.views))
    images = modality_of(config).images
    altered = ("he" in images and views.he_jitter) or ("sp" in images and views.sp_dropout)
    if views.extra and not altered:
        raise ConfigError(
            f"views.extra={views.extra} would be copies that differ in nothing from the others with "
            f"modality={config.modality}: raise views.he_jitter (H&E) or views.sp_dropout (SP)."
        )
