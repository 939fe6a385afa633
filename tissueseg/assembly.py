"""From a composed configuration to the parts of a run, shared by the commands that need them.

What is cheap to check comes first: names and shapes that do not fit are refused before a store is
opened, and before the demo is drawn.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from tissueseg.command import build, plain
from tissueseg.contracts import (
    DataSpec,
    EncoderSpec,
    Modality,
    Normalisation,
    check_composition,
    head_channels,
)
from tissueseg.data.datamodule import Loading, TissueDataModule
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.encoders.base import Encoder
from tissueseg.errors import ConfigError, SplitError
from tissueseg.losses.class_weights import inverse_frequency
from tissueseg.losses.weighted_sum import WeightedSum
from tissueseg.metrics.semantic import PooledConfusion
from tissueseg.modules.callbacks import Panels
from tissueseg.modules.checkpoint import DecoderCheckpoint, save_decoder
from tissueseg.modules.fields import open_fields
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.store.demo import DemoParameters
from tissueseg.store.demo.cohort import demo_store
from tissueseg.store.tissues import TissueStore

_WHOLE_NUMBERS = {
    "data.tile_px": 1,
    "data.batch_size": 1,
    "data.num_workers": 0,
    "epochs": 1,
    "patience": 1,
    "seed": 0,
    "panels.count": 0,
    "panels.size_px": 1,
    "panels.every_n_epochs": 1,
}


def modality_of(config: DictConfig) -> Modality:
    """The modality a config names."""
    try:
        return Modality(config.modality)
    except ValueError:
        known = ", ".join(m.value for m in Modality)
        raise ConfigError(f"modality={config.modality} is unknown: choose from {known}.") from None


def check(config: DictConfig) -> EncoderSpec:
    """Check numbers, and encoder, modality, tiles, decoder and loss against each other.

    Opens nothing.
    """
    for key, lowest in _WHOLE_NUMBERS.items():
        value = OmegaConf.select(config, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise ConfigError(f"{key}={value}, wanted a whole number of at least {lowest}.")
    spec: EncoderSpec = build(config.encoder.spec)
    heads = list(config.decoder.heads)
    for head in heads:
        head_channels(head, n_classes=1)
    unweighted = OmegaConf.merge(config, {"class_weights": None})  # they may wait for the data
    loss: WeightedSum = build(unweighted.loss)
    check_composition(spec, modality_of(config), config.data.tile_px, heads, loss.heads)
    return spec


def open_store(config: DictConfig, console: Console) -> TissueStore:
    """Open the configured store, or draw the demo."""
    if config.store.path is not None:
        return TissueStore(config.store.path)
    parameters = DemoParameters(**plain(config.store.demo))
    shown: Callable[..., Any] = track if console.is_terminal else _announced(console)
    return TissueStore(demo_store(parameters, track=lambda i: shown(i, "Drawing the demo tissues")))


def open_split(config: DictConfig, store: TissueStore) -> Split:
    """Split a store's tissues as configured."""
    return build(config.split)({t: store.entry(t).patient for t in store.tissues})


def open_data(
    config: DictConfig,
    store: TissueStore,
    split: Split,
    normalisation: Normalisation,
    normaliser: Normaliser | None = None,
) -> TissueDataModule:
    """Make the datasets of a split.

    Args:
        config: of the run.
        store: opened.
        split: of its tissues.
        normalisation: what the encoder wants.
        normaliser: of a trained decoder; None: fitted on the training tissues.
    """
    modality = modality_of(config)
    store.require(modality)
    fitted = normaliser or Normaliser.fit(store, split.train, modality, normalisation)
    targets = Targets.for_heads(
        list(config.decoder.heads), BoundaryTarget(**plain(config.boundary))
    )
    loading = Loading(**plain(config.data), seed=config.seed)
    return TissueDataModule(store, split, fitted, targets, loading)


def check_against_data(config: DictConfig, data: TissueDataModule) -> None:
    """Check what only the store can tell: class names in the monitor, something to find in val."""
    store = data.store
    names = ("macro", "macro_foreground", *(c.name for c in store.classes))
    known = [f"val/{score}/{name}" for score in ("dice", "iou") for name in names]
    if config.monitor not in known:
        raise ConfigError(f"monitor={config.monitor} is unknown: choose from {', '.join(known)}.")
    if not store.class_pixels(data.split.val)[1:].any():
        raise SplitError(
            f"split: the validation tissues {list(data.split.val)[:5]} hold no cell of any class, so "
            "no epoch could be chosen: change split.val."
        )


def settle_class_weights(config: DictConfig, data: TissueDataModule) -> None:
    """Replace `class_weights=inverse_frequency` by the numbers, so that the saved config holds them."""
    n_classes = len(data.store.classes)
    if config.class_weights == "inverse_frequency":
        pixels = data.store.class_pixels(data.split.train)
        config.class_weights = inverse_frequency(pixels.tolist())
    elif isinstance(config.class_weights, str):
        raise ConfigError(
            f"class_weights={config.class_weights} is unknown: choose null, inverse_frequency or a "
            "list with one number per class."
        )
    if config.class_weights is not None and len(config.class_weights) != n_classes:
        raise ConfigError(
            f"class_weights has {len(config.class_weights)} numbers, but the store has {n_classes} "
            "classes: give one per class, background first."
        )


def build_encoder(config: DictConfig, data: DataSpec) -> Encoder:
    """Build the frozen encoder for a store's channels."""
    return build(config.encoder)(image_channels=data.image_channels)


def build_module(
    config: DictConfig, encoder: Encoder, data: TissueDataModule
) -> SegmentationModule:
    """Put encoder, decoder, loss and optimizer together."""
    spec, n_classes = data.spec, len(data.store.classes)
    decoder = build(config.decoder)(
        spec=encoder.spec, image_channels=spec.image_channels, n_classes=n_classes
    )
    loss: WeightedSum = build(config.loss)
    sides = {side: len(getattr(data.split, side)) for side in ("val", "test")}
    metrics = {side: PooledConfusion(n, n_classes) for side, n in sides.items() if n}
    names = [c.name for c in data.store.classes]
    optimizer, scheduler = build(config.optim.optimizer), build(config.optim.scheduler)
    module = SegmentationModule(encoder, decoder, loss, metrics, names, optimizer, scheduler)
    try:
        module.configure_optimizers()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optim: {error}.") from error
    return module


def build_trainer(
    config: DictConfig, console: Console, callbacks: Sequence[Any], loggers: Sequence[Any] = ()
) -> Trainer:
    """Lightning's Trainer, with a progress bar where there is a terminal to draw it on."""
    quiet_lightning()
    bar = [RichProgressBar()] if console.is_terminal else []
    return build(
        config.trainer,
        callbacks=[*callbacks, *bar],
        logger=list(loggers) or False,
        enable_progress_bar=bool(bar),
        enable_checkpointing=False,
    )


def quiet_lightning() -> None:
    """Silence advice that does not hold here; warnings about the run itself still show."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for advice in (
        ".*does not have many workers.*",  # tiles are read in-process: faster, see Loading
        ".*number of training batches.*smaller than the logging interval.*",
        ".*module.s. in eval mode at the start of training.*",  # the encoder, for ever
        ".*isinstance.*LeafSpec.*",  # lightning 2.6 on torch 2.13
    ):
        warnings.filterwarnings("ignore", advice)


def describe(module: SegmentationModule, data: TissueDataModule) -> dict[str, Any]:
    """Which encoder, data, split and store a run used, in plain types."""
    return {
        "encoder": module.encoder.spec.as_dict() | {"weights": module.encoder.digest()},
        "data": data.spec.as_dict(),
        "split": data.split._asdict(),
        "store": str(data.store.path.resolve()),
    }


def keep_decoder(
    config: DictConfig, data: TissueDataModule, module: SegmentationModule, path: Path
) -> Callable[[SegmentationModule, int, float], None]:
    """What `BestDecoder` calls: write the module's decoder with all it takes to use it again."""
    pixels = data.store.class_pixels(data.split.train)
    known = {
        "encoder": module.encoder.spec.as_dict(),
        "encoder_digest": module.encoder.digest(),
        "data": data.spec.as_dict(),
        "normaliser": data.normaliser.as_dict(),
        "decoder": plain(config.decoder),
        "train_pixels": pixels.tolist(),
        "monitor": config.monitor,
    }

    def save(module: SegmentationModule, epoch: int, score: float) -> None:
        state = {name: value.detach().cpu() for name, value in module.decoder.state_dict().items()}
        save_decoder(path, DecoderCheckpoint(**known, state=state, epoch=epoch, score=score))

    return save


def build_panels(config: DictConfig, data: TissueDataModule, folder: Path) -> Panels:
    """The callback that draws some validation fields."""
    fields = open_fields(data, config.panels.count, config.panels.size_px)
    return Panels(fields, folder, config.panels.every_n_epochs)


def _announced(console: Console) -> Callable[..., Any]:
    def once(items: Any, description: str) -> Any:
        console.print(f"{description} …")
        return items

    return once
