"""From a composed configuration to the parts of a run, shared by the commands that need them.

What is cheap to check comes first: names and shapes that do not fit are refused before a store is
opened, and before the demo is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from tissueseg import __version__
from tissueseg.augmentations import build_augmentation
from tissueseg.building import build, finish
from tissueseg.composition import plain
from tissueseg.data.chances import Chances, training_counts
from tissueseg.data.datamodule import TissueDataModule
from tissueseg.data.feeding import Loading, Sampling
from tissueseg.data.normalise import Normaliser
from tissueseg.data.split_tables import named_split
from tissueseg.data.splits import Cohort, Split, SplitRule
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.data.views import Views
from tissueseg.encoders.finetune import tune, tuned_state
from tissueseg.errors import StoreWriteError, UnreachableError, in_one_line
from tissueseg.features import FeatureSource
from tissueseg.heads import scored_classes
from tissueseg.losses.weighted_sum import WeightedSum
from tissueseg.metrics.semantic import PooledConfusion
from tissueseg.modules.callbacks import Panels
from tissueseg.modules.checkpoint import DecoderCheckpoint, save_decoder
from tissueseg.modules.fields import open_fields
from tissueseg.modules.group import ALONE, Group
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.modules.whole_batch import share_batch_norm
from tissueseg.optimisation import finetune_of
from tissueseg.preflight import modality_of, scored_pixels
from tissueseg.progress import tracked
from tissueseg.ranks import computes_on_cuda
from tissueseg.reporting.fingerprint import fingerprint
from tissueseg.store.demo import DemoParameters
from tissueseg.store.demo.cohort import demo_store
from tissueseg.store.embeddings import EmbeddingStore
from tissueseg.store.named_splits import keep_split
from tissueseg.store.tile_counts import TileCounts
from tissueseg.store.tissues import TissueStore
from tissueseg.trainer import shares_norm


def open_store(config: DictConfig, console: Console) -> TissueStore:
    """Open the configured store, or draw the demo."""
    if config.store.path is not None:
        return TissueStore(config.store.path)
    parameters = DemoParameters(**plain(config.store.demo))
    shown: Callable[..., Any] = track if console.is_terminal else _announced(console)
    return TissueStore(demo_store(parameters, track=lambda i: shown(i, "Drawing the demo tissues")))


def open_split(config: DictConfig, store: TissueStore) -> Split:
    """Split a store's tissues as configured."""
    return finish("split", build(config.split), cohort=Cohort.of(store))


def name_split(config: DictConfig, store: TissueStore, split: Split) -> str:
    """Keep a split in the store under its name, which the configuration then says; a line on that.

    Raises:
        SplitError: the store keeps another split under this name.
    """
    rule: SplitRule = build(config.split)
    OmegaConf.update(config, "split.name", rule.label, force_add=True)
    try:
        where = keep_split(store.address, named_split(rule, split, store.digests()))
    except (StoreWriteError, UnreachableError) as error:
        return f"notice: split {rule.label} is not kept by name in the store: {in_one_line(error)}"
    return f"split {rule.label}: kept in {where}"


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
        store,
        split,
        fitted,
        targets,
        loading,
        spec.halo_px,
        views,
        features.embeddings,
        open_sampling(config, store, split),
        build_augmentation(config, spec.halo_px) if split.train else None,
    )


def open_sampling(config: DictConfig, store: TissueStore, split: Split) -> Sampling:
    """Weigh the training tiles as configured; counts what they show, unless the store knows."""
    chances: Chances = build(config.sampling)
    counts, tissues = TileCounts(store), tracked(split.train, "Counting classes tile by tile")
    count = partial(training_counts, counts, tissues, config.data.tile_px, config.data.train_edge)
    weights = chances.weights(count) if split.train else None
    return Sampling(weights, counts.notes)


def build_module(
    config: DictConfig, features: FeatureSource, data: TissueDataModule, group: Group = ALONE
) -> SegmentationModule:
    """Put encoder or stored features, decoder, loss and optimizer together."""
    spec, n_classes = data.spec, len(data.store.classes)
    given = {"image_channels": spec.image_channels, "n_classes": n_classes}
    decoder = finish("decoder", build(config.decoder), spec=features.spec, **given)
    loss: WeightedSum = build(config.loss)
    sides = {side: len(getattr(data.split, side)) for side in ("val", "test")}
    names = [c.name for c in scored_classes(list(config.decoder.heads), data.store.classes)]
    metrics = {side: PooledConfusion(n, len(names)) for side, n in sides.items() if n}
    tissues = data.split._asdict()
    optimizer, scheduler = build(config.optim.optimizer), build(config.optim.scheduler)
    how = finetune_of(config)
    if features.encoder is not None:
        tune(features.encoder, how, config.seed)
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
        how.lr_factor,
        group,
    )
    if group.of > 1 and shares_norm(config) and not computes_on_cuda(config):
        share_batch_norm(decoder)  # on CUDA, Lightning puts torch's in its place
    if config.epochs:  # else nothing will be trained
        finish("optim", module.configure_optimizers)
    return module


def describe(
    config: DictConfig,
    module: SegmentationModule,
    data: TissueDataModule,
    stored: EmbeddingStore | None = None,
) -> dict[str, Any]:
    """Which encoder, data, split and store a run used, in plain types."""
    spec, digests = module.spec, _digests(data)
    patients = Cohort.of(data.store).patients
    each = {t: digest for side in digests.values() for t, digest in side.items()}
    return {
        "encoder": module.spec.as_dict(),
        "weights": module.describe(),
        "features": data.describe_features(),
        "embeddings": None if stored is None else stored.fingerprint,
        "data": data.spec.as_dict(),
        "split": data.split._asdict(),
        "store": data.store.location,
        # A tissue without one is its own patient, under its own name.
        "patients": {t: None if patients[t] == t else patients[t] for t in each},
        "digests": each,
        "fingerprint": fingerprint(plain(config), spec.sha256, digests, __version__),
    }


def _digests(data: TissueDataModule) -> dict[str, dict[str, str]]:
    """Side -> tissue -> digest of its pixels."""
    sides = data.split._asdict().items()
    return {side: data.store.digests(tissues) if tissues else {} for side, tissues in sides}


def keep_decoder(
    config: DictConfig, data: TissueDataModule, module: SegmentationModule, path: Path
) -> Callable[[SegmentationModule, int, float], None]:
    """What `BestDecoder` calls: write the module's decoder with all it takes to use it again."""
    known = {
        "encoder": module.spec.as_dict(),
        "data": data.spec.as_dict(),
        "normaliser": data.normaliser.as_dict(),
        "decoder": plain(config.decoder),
        "split": _digests(data),
        "train_pixels": scored_pixels(config, data.train_pixels),
        "monitor": config.monitor,
        "finetune": finetune_of(config).as_dict(),
    }

    def save(module: SegmentationModule, epoch: int, score: float) -> None:
        state = {name: value.detach().cpu() for name, value in module.decoder.state_dict().items()}
        tuned = {} if module.encoder is None else tuned_state(module.encoder)
        kept = {"state": state, "encoder_state": tuned, "epoch": epoch, "score": score}
        save_decoder(path, DecoderCheckpoint(**known, **kept))

    return save


def build_panels(
    config: DictConfig,
    data: TissueDataModule,
    folder: Path,
    sides: Sequence[str] = ("val",),
    group: Group = ALONE,
) -> Panels:
    """The callback that draws some fields; `panels.count` of each side at most."""
    heads, options = list(config.decoder.heads), config.panels
    fields = {
        side: open_fields(data, heads, options.count, options.size_px, side)
        for side in sides
        if getattr(data.split, side)
    }
    return Panels(fields, folder, options.every_n_epochs, group)


def _announced(console: Console) -> Callable[..., Any]:
    def once(items: Any, description: str) -> Any:
        console.print(f"{description} …")
        return items

    return once
