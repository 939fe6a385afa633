"""`python -m tissueseg.evaluate run=…`: a run's decoder scored again, on any side or another store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console

from tissueseg.command import run_command
from tissueseg.errors import (
    ConfigError,
    SplitError,
    WeightsError,
    WeightsNotFoundError,
    in_one_line,
)
from tissueseg.sweep import end_with_sweep
from tissueseg.trained import check_command, run_folder, trained_config

if TYPE_CHECKING:
    import numpy as np

    from tissueseg.data.splits import Split
    from tissueseg.modules.checkpoint import DecoderCheckpoint
    from tissueseg.prediction import Predictor
    from tissueseg.store.tissues import TissueStore

SIDES = ("val", "test", "train")


def evaluate(config: DictConfig) -> None:
    """Load, check that everything fits, count pixels and cells, print and write."""
    from tissueseg import assembly, preflight
    from tissueseg.cell_evaluation import score_cells
    from tissueseg.data.datamodule import data_spec
    from tissueseg.data.splits import require_labels
    from tissueseg.features import Trained, open_features
    from tissueseg.modules.cell_scoring import groups_of
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.modules.scoring import PixelCalibration, StudyDice, count
    from tissueseg.prediction import check_options
    from tissueseg.reporting import runs
    from tissueseg.reporting.scores import side_scores

    folder, console = run_folder(config), Console()
    check_command(config)
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
    about_data = data_spec(store, modality, trained.data.tile_px)
    checkpoint.check_data(about_data)
    split = _chosen(config, checkpoint, store)
    require_labels(store, split)
    groups = groups_of(store, split.val, config.groups)
    predictor = _predictor(config, trained, checkpoint, store, console)
    normaliser = checkpoint.read_normaliser()
    features = open_features(trained, store, split, Trained(normaliser, precision))
    for line in features.notes:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    checkpoint.check_encoder(features.spec)
    data = assembly.open_data(trained, store, split, features, normaliser)
    module = assembly.build_module(trained, features, data)
    checkpoint.restore(module.decoder, module.encoder)
    panels = assembly.build_panels(trained, data, out / runs.PANELS)
    study = StudyDice(len(checkpoint.scored_classes), trained.data.batch_size)
    calibration = PixelCalibration()
    trainer = assembly.build_trainer(
        trained, console, [panels, study, calibration], every_tile=True
    )
    counts = count(trainer, module, data, "val")
    scores = side_scores(counts, split.val, checkpoint.train_pixels)
    scores |= {"study": study.scores(), "calibration": calibration.scores()}
    if predictor is not None:
        scores["cells"] = score_cells(
            config, predictor, split.val, groups, out / runs.PANELS, console
        )
    about = checkpoint.about(trained.name)
    _write(out, title, about, counts, scores)
    _print(console, title, about, scores)
    console.print(f"  {out}", highlight=False, soft_wrap=True)


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
    console: Console,
) -> Predictor | None:
    """What finds cells; None where that is not wanted, or the encoder cannot be built."""
    from tissueseg.prediction import Predictor
    from tissueseg.workers import autocast_of, chosen_devices

    if config.cells is False:
        return None
    device, autocast = chosen_devices(trained)[0], autocast_of(config.trainer.precision)
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
    end_with_sweep()
    run_command("evaluate", evaluate)
