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
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from tissueseg.command import build, finish, plain
from tissueseg.data.datamodule import Loading, TissueDataModule
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.data.views import Views
from tissueseg.features import FeatureSource
from tissueseg.losses.weighted_sum import WeightedSum
from tissueseg.metrics.semantic import PooledConfusion
from tissueseg.modules.callbacks import Panels
from tissueseg.modules.checkpoint import DecoderCheckpoint, save_decoder
from tissueseg.modules.fields import open_fields
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.preflight import modality_of
from tissueseg.store.demo import DemoParameters
from tissueseg.store.demo.cohort import demo_store
from tissueseg.store.tissues import TissueStore

_EVERY_TILE = {"limit_val_batches": 1.0, "limit_test_batches": 1.0}


def open_store(config: DictConfig, console: Console) -> TissueStore:
    """Open the configured store, or draw the demo."""
    if config.store.path is not None:
        return TissueStore(config.store.path)
    parameters = DemoParameters(**plain(config.store.demo))
    shown: Callable[..., Any] = track if console.is_terminal else _announced(console)
    return TissueStore(demo_store(parameters, track=lambda i: shown(i, "Drawing the demo tissues")))


def open_split(config: DictConfig, store: TissueStore) -> Split:
    """Split a store's tissues as configured."""
    patients = {t: store.entry(t).patient for t in store.tissues}
    stated = {t: store.entry(t).split for t in store.tissues}
    return finish("split", build(config.split), patients=patients, stated=stated)


def open_data(
    config: DictConfig,
    store: TissueStore,
    split: Split,
    features: FeatureSource,
    normaliser: Normaliser | None = None,
) -> TissueDataModule:
    """Make the datasets of a split.

    Args:
        config: of the run.
        store: opened.
        split: of its tissues.
        features: its encoder's spec says how images are scaled, and its halo.
        normaliser: of a trained decoder; None: fitted on the training tissues.
    """
    modality = modality_of(config)
    store.require(modality)
    spec = features.spec
    fitted = normaliser or Normaliser.fit(store, split.train, modality, spec.normalisation)
    targets = Targets.for_heads(
        list(config.decoder.heads), BoundaryTarget(**plain(config.boundary))
    )
    loading = Loading(**plain(config.data), seed=config.seed)
    views = Views(**plain(config.views))
    return TissueDataModule(
        store, split, fitted, targets, loading, spec.halo_px, views, features.embeddings
    )


def build_module(
    config: DictConfig, features: FeatureSource, data: TissueDataModule
) -> SegmentationModule:
    """Put encoder or stored features, decoder, loss and optimizer together."""
    spec, n_classes = data.spec, len(data.store.classes)
    given = {"image_channels": spec.image_channels, "n_classes": n_classes}
    decoder = finish("decoder", build(config.decoder), spec=features.spec, **given)
    loss: WeightedSum = build(config.loss)
    sides = {side: len(getattr(data.split, side)) for side in ("val", "test")}
    metrics = {side: PooledConfusion(n, n_classes) for side, n in sides.items() if n}
    names, tissues = [c.name for c in data.store.classes], data.split._asdict()
    optimizer, scheduler = build(config.optim.optimizer), build(config.optim.scheduler)
    module = SegmentationModule(
        features.spec,
        features.encoder,
        decoder,
        loss,
        metrics,
        names,
        tissues,
        optimizer,
        scheduler,
    )
    if config.epochs:  # else nothing will be trained
        finish("optim", module.configure_optimizers)
    return module


def build_trainer(
    config: DictConfig,
    console: Console,
    callbacks: Sequence[Any],
    loggers: Sequence[Any] = (),
    every_tile: bool = False,
) -> Trainer:
    """Lightning's Trainer, with a progress bar where there is a terminal to draw it on.

    Args:
        config: of the run.
        console: where progress goes.
        callbacks: of the run.
        loggers: none for passes that only score.
        every_tile: score whole sides, whatever a fit was limited to.
    """
    quiet_lightning()
    bar = [RichProgressBar()] if console.is_terminal else []
    return build(
        config.trainer,
        callbacks=[*callbacks, *bar],
        logger=list(loggers) or False,
        enable_progress_bar=bool(bar),
        enable_checkpointing=False,
        **(_EVERY_TILE if every_tile else {}),
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
        "encoder": module.spec.as_dict(),
        "weights": module.describe(),
        "features": data.describe_features(),
        "data": data.spec.as_dict(),
        "split": data.split._asdict(),
        "store": data.store.location,
    }


def keep_decoder(
    config: DictConfig, data: TissueDataModule, module: SegmentationModule, path: Path
) -> Callable[[SegmentationModule, int, float], None]:
    """What `BestDecoder` calls: write the module's decoder with all it takes to use it again."""
    known = {
        "encoder": module.spec.as_dict(),
        "data": data.spec.as_dict(),
        "normaliser": data.normaliser.as_dict(),
        "decoder": plain(config.decoder),
        "split": {
            side: data.store.digests(tissues) if tissues else {}
            for side, tissues in data.split._asdict().items()
        },
        "train_pixels": data.train_pixels.tolist(),
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
