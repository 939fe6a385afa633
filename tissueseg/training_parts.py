"""What one training is made of: everything is opened and checked before its folder is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import seed_everything
from omegaconf import DictConfig
from rich.console import Console

from tissueseg import assembly, preflight
from tissueseg.agreement import check_tiles
from tissueseg.composition import added, plain, task_words
from tissueseg.data.datamodule import TissueDataModule
from tissueseg.data.splits import require_labels
from tissueseg.embedding_job import make_features
from tissueseg.features import embed_command, open_features
from tissueseg.modules.checkpoint import run_name
from tissueseg.modules.group import Group
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.modules.tracking import check_tracking
from tissueseg.optimisation import finetune_of
from tissueseg.reporting import runs
from tissueseg.resuming import default_folder
from tissueseg.store.embeddings import EmbeddingStore
from tissueseg.store.tissues import TissueStore
from tissueseg.trainer import build_trainer

if TYPE_CHECKING:
    from tissueseg.ranks import Rank


@dataclass(frozen=True)
class Parts:
    """What one training is made of, opened and checked."""

    name: str
    config: DictConfig
    store: TissueStore
    data: TissueDataModule
    module: SegmentationModule
    features: EmbeddingStore | None  # None: encoded online
    notes: tuple[str, ...]  # where features come from

    def describe(self) -> dict[str, Any]:
        """Which encoder, data, split and store it is made of."""
        return assembly.describe(self.config, self.module, self.data, self.features)

    def keep_split(self) -> str:
        """Name the split in the store and in the configuration; a line on that."""
        return assembly.name_split(self.config, self.store, self.data.split)


def open_parts(
    config: DictConfig, named: Path | None, group: Group, rank: Rank | None, console: Console
) -> Parts:
    """Build everything, before anything is written but what the store keeps of itself.

    Args:
        config: as composed, or as a run that goes on has kept it.
        named: folder of a run that goes on.
        group: of the processes that train together.
        rank: of this one; None: it is alone.
        console: where progress goes.
    """
    spec = preflight.check(config)
    preflight.check_machine(config)
    preflight.check_training(config)
    check_tracking(plain(config.logger))
    if named is None:
        _settle_name(config)
    name = run_name(config.name, config.modality, finetune_of(config).label(spec.label))
    runs.check_writable(named or default_folder(config, name))
    store = assembly.open_store(config, console)
    modality = preflight.modality_of(config)
    store.require(modality)
    check_tiles(spec, config.data.tile_px, store.mpp)
    split = assembly.open_split(config, store)
    require_labels(store, split)
    command = make = None
    if named is None:  # else features that have gone since are not made anew
        command = embed_command()
        if config.embeddings.make and group.leads:
            make = partial(make_features, config, store, split, console)
    features = open_features(config, store, split, command=command, make=make)
    check_tiles(features.spec, config.data.tile_px, store.mpp)  # its weights may have another patch
    data = assembly.open_data(config, store, split, features)
    preflight.check_against_data(config, data)
    preflight.settle_class_weights(config, data)
    preflight.settle_paths(config)
    seed_everything(config.seed, workers=True, verbose=False)
    module = assembly.build_module(config, features, data, group)
    build_trainer(config, console, [], rank=rank)  # lacks it a GPU, it says so now
    stored = features.embeddings.store if features.embeddings else None
    return Parts(name, config, store, data, module, stored, features.notes)


def _settle_name(config: DictConfig) -> None:
    """Slots that the command line adds to a decoder stand in the run's name, unless it gives one."""
    if not any(word.startswith("name=") for word in task_words()):
        config.name = "+".join([config.name, *added("decoder/slots@decoder")])
