"""`python -m tissueseg.evaluate run=…`: a run's decoder scored again, on any side or another store."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console

from tissueseg.command import run_command
from tissueseg.composition import task_words
from tissueseg.errors import (
    ConfigError,
    SplitError,
    WeightsError,
    WeightsNotFoundError,
    in_one_line,
)
from tissueseg.ranks import Rank, begin_ranks, ranks_to_start, start_ranks
from tissueseg.store.processes import end_with_starter
from tissueseg.trained import check_command, run_folder, trained_config

if TYPE_CHECKING:
    import numpy as np
    import torch

    from tissueseg.data.datamodule import TissueDataModule
    from tissueseg.data.splits import Split
    from tissueseg.modules.checkpoint import DecoderCheckpoint
    from tissueseg.modules.group import Group
    from tissueseg.modules.segmentation import SegmentationModule
    from tissueseg.prediction import Predictor
    from tissueseg.store.tissues import TissueStore

SIDES = ("val", "test", "train")


@dataclass(frozen=True)
class Evaluation:
    """One call of the command, opened and checked."""

    config: DictConfig
    trained: DictConfig  # configuration of the run
    checkpoint: DecoderCheckpoint
    title: str
    out: Path
    split: Split  # whose validation side is scored
    groups: list[str]  # of its tissues
    predictor: Predictor | None  # None: cells are not scored
    data: TissueDataModule
    module: SegmentationModule


def evaluate(config: DictConfig) -> None:
    """Load, check that everything fits, count, print and write; in a process for each device."""
    check_command(config)
    if count := ranks_to_start(config):
        if worst := start_ranks("tissueseg.evaluate", task_words(), count):
            sys.exit(worst)
        return
    rank = begin_ranks("tissueseg.evaluate", config)
    from tissueseg.devices import own_device
    from tissueseg.modules.group import joined

    place, device = rank or Rank(), own_device(config)
    cuda = device.type == "cuda"
    with joined(place.number, place.of, device.index if cuda else 0, cuda) as group:
        console = Console(quiet=not group.leads)
        opened = group.in_turn(lambda: _open(config, device, group, console))
        counts, scores = _scored(opened, rank, group, console)
        if not group.leads:
            return
        about = opened.checkpoint.about(opened.trained.name)
        _write(opened.out, opened.title, about, counts, scores)
        _print(console, opened.title, about, scores)
        console.print(f"  {opened.out}", highlight=False, soft_wrap=True)


def _open(config: DictConfig, device: torch.device, group: Group, console: Console) -> Evaluation:
    """Check everything, and build what scores."""
    from tissueseg import assembly, preflight
    from tissueseg.data.datamodule import data_spec
    from tissueseg.data.splits import require_labels
    from tissueseg.features import Trained, open_features
    from tissueseg.modules.cell_scoring import groups_of
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.prediction import check_options
    from tissueseg.reporting import runs

    folder = run_folder(config)
    _check_values(config)
    check_options(config)
    trained, precision = trained_config(config, folder)
    checkpoint = load_decoder(folder / runs.DECODER)
    preflight.check(trained)
    preflight.check_machine(trained)
    title = config.side if config.store.path is None else Path(config.store.path).stem
    out = Path(config.out or folder / "evaluation" / title)
    _check_out(out)
    store, modality = assembly.open_store(trained, console), preflight.modality_of(trained)
    store.require(modality)
    checkpoint.check_data(data_spec(store, modality, trained.data.tile_px))
    split = _chosen(config, checkpoint, store)
    require_labels(store, split)
    groups = groups_of(store, split.val, config.groups)
    predictor = _predictor(config, trained, checkpoint, store, device, console)
    normaliser = checkpoint.read_normaliser()
    features = open_features(trained, store, split, Trained(normaliser, precision))
    for line in features.notes:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    checkpoint.check_encoder(features.spec)
    data = assembly.open_data(trained, store, split, features, normaliser)
    module = assembly.build_module(trained, features, data, group)
    checkpoint.restore(module.decoder, module.encoder)
    where = (title, out, split, groups)
    return Evaluation(config, trained, checkpoint, *where, predictor, data, module)


def _scored(
    opened: Evaluation, rank: Rank | None, group: Group, console: Console
) -> tuple[np.ndarray, dict[str, Any]]:
    """Counts of pixels, and the scores of a side as `metrics.json` has them."""
    from tissueseg import assembly
    from tissueseg.cell_evaluation import score_cells
    from tissueseg.modules.scoring import PixelCalibration, StudyDice, count
    from tissueseg.reporting import runs
    from tissueseg.reporting.scores import side_scores
    from tissueseg.trainer import build_trainer

    trained, checkpoint, tissues = opened.trained, opened.checkpoint, opened.split.val
    folder = opened.out / runs.PANELS
    panels = assembly.build_panels(trained, opened.data, folder, group=group)
    study = StudyDice(len(checkpoint.scored_classes), trained.data.batch_size)
    calibration = PixelCalibration()
    callbacks = [panels, study, calibration]
    trainer = build_trainer(trained, console, callbacks, every_tile=True, rank=rank)
    counts = count(trainer, opened.module, opened.data, "val")
    scores = side_scores(counts, tissues, checkpoint.train_pixels)
    scores |= {"study": study.scores(), "calibration": calibration.scores()}
    if opened.predictor is not None:
        cells = (opened.predictor, tissues, opened.groups, folder, console, group)
        scores["cells"] = score_cells(opened.config, *cells)
    return counts, scores


def _print(console: Console, title: str, about: dict[str, Any], scores: dict[str, Any]) -> None:
    from tissueseg.reporting.tables import cell_table, class_table

    console.print(class_table(about, {title: scores}))
    if "cells" in scores:
        console.print(cell_table(scores["cells"]))


def _write(
    out: Path, title: str, about: dict[str, Any], counts: np.ndarray, scores: dict[str, Any]
) -> None:
    """Leave the scores of a side; `metrics.json` last, so that it stands for all."""
    from tissueseg.reporting import runs
    from tissueseg.reporting.scores import run_metrics, write_score_tables

    out.mkdir(parents=True, exist_ok=True)
    runs.save_confusion(out, "val", counts)
    write_score_tables(out, about["classes"], scores)
    runs.write_json(out / runs.METRICS, run_metrics(about, {title: scores}))


def _predictor(
    config: DictConfig,
    trained: DictConfig,
    checkpoint: DecoderCheckpoint,
    store: TissueStore,
    device: torch.device,
    console: Console,
) -> Predictor | None:
    """What finds cells; None where that is not wanted, or the encoder cannot be built."""
    from tissueseg.devices import autocast_of
    from tissueseg.prediction import Predictor

    if config.cells is False:
        return None
    autocast = autocast_of(config.trainer.precision)
    try:
        return Predictor(config, trained, checkpoint, store, device, autocast, measures=False)
    except (WeightsError, WeightsNotFoundError) as error:
        if config.cells != "auto":
            raise
        line = f"notice: cells are not scored: {in_one_line(error)}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
        return None


def _check_values(config: DictConfig) -> None:
    if config.side not in SIDES:
        raise ConfigError(f"side={config.side} is unknown: choose from {', '.join(SIDES)}.")
    if config.cells != "auto" and not isinstance(config.cells, bool):
        raise ConfigError(f"cells={config.cells}: wanted auto, true or false.")
    if config.groups is not None and not isinstance(config.groups, str):
        raise ConfigError(f"groups={config.groups}: wanted a pattern in quotes, or null.")


def _check_out(out: Path) -> None:
    from tissueseg.reporting import runs

    runs.check_writable(out, "out")
    if (out / runs.CONFIG).exists():
        raise ConfigError(f"out={out} is the folder of a run, whose scores would be lost.")


def _chosen(config: DictConfig, checkpoint: DecoderCheckpoint, store: TissueStore) -> Split:
    """A split whose validation side holds what is to be scored, none of it training in disguise."""
    from tissueseg.data.splits import Split

    if config.store.path is not None:
        checkpoint.check_unseen(store.digests())
        return Split(train=(), val=store.tissues)
    tissues = getattr(checkpoint.split_of(store.digests()), config.side)
    if not tissues:
        raise SplitError(f"side={config.side} of this run holds no tissue: choose another side.")
    return Split(train=(), val=tissues)


if __name__ == "__main__":
    end_with_starter()
    run_command("evaluate", evaluate)
