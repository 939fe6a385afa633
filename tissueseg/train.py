"""`python -m tissueseg.train`: a store and a composition in, a decoder with its numbers out."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.command import INTERRUPTED, added, run_command, task_words
from tissueseg.errors import ConfigError
from tissueseg.study_checks import check_single
from tissueseg.sweep import end_with_sweep, start_apart

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import Logger

    from tissueseg.data.datamodule import TissueDataModule
    from tissueseg.modules.segmentation import SegmentationModule
    from tissueseg.store.embeddings import EmbeddingStore

# Torch and Lightning take seconds to import; composing and --help do without them, so they are
# imported inside the functions.


@dataclass(frozen=True)
class Run:
    """One training, opened and checked."""

    name: str
    folder: Path
    config: DictConfig
    data: TissueDataModule
    module: SegmentationModule
    loggers: list[Logger]
    console: Console
    features: EmbeddingStore | None  # None: encoded online
    notes: tuple[str, ...]  # where features come from and the split is kept


def train(config: DictConfig) -> None:
    """Check, open, fit, score the best epoch, report."""
    run = _open(config, Console())
    _announce(run)
    if not _fit(run):
        _say(run, "interrupted; the best decoder so far is kept. Score it with")
        _say(run, f"  python -m tissueseg.evaluate run={run.folder}")
        sys.exit(INTERRUPTED)
    _score(run)
    for path in sorted(run.folder.rglob("*")):
        if path.is_file() and "wandb" not in path.parts:
            _say(run, f"  {path}")
    _say(run, "cells of whole tissues, and their scores:")
    for command in ("predict", "evaluate"):
        _say(run, f"  python -m tissueseg.{command} run={run.folder}")


def _open(config: DictConfig, console: Console) -> Run:
    """Build everything, and only then make the run folder."""
    from lightning.pytorch import seed_everything

    from tissueseg import assembly, preflight
    from tissueseg.contracts import check_tiles
    from tissueseg.data.splits import require_labels
    from tissueseg.features import embed_command, open_features
    from tissueseg.modules.checkpoint import run_name
    from tissueseg.modules.tracking import check_tracking, open_tracking
    from tissueseg.optimisation import finetune_of
    from tissueseg.reporting import runs

    check_single(config)
    spec = preflight.check(config)
    preflight.check_machine(config)
    preflight.check_training(config)
    check_tracking(assembly.plain(config.logger))
    _settle_name(config)
    name = run_name(config.name, config.modality, finetune_of(config).label(spec.label))
    wanted = Path(config.run_dir or Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S"))
    runs.check_writable(wanted)
    store = assembly.open_store(config, console)
    modality = preflight.modality_of(config)
    store.require(modality)
    check_tiles(spec, config.data.tile_px, store.mpp)
    split = assembly.open_split(config, store)
    require_labels(store, split)
    features = open_features(config, store, split, command=embed_command())
    check_tiles(features.spec, config.data.tile_px, store.mpp)  # its weights may have another patch
    data = assembly.open_data(config, store, split, features)
    preflight.check_against_data(config, data)
    preflight.settle_class_weights(config, data)
    preflight.settle_paths(config)
    seed_everything(config.seed, workers=True, verbose=False)
    module = assembly.build_module(config, features, data)
    _check_processes(assembly.build_trainer(config, console, []))  # lacks it a GPU, it says so now
    kept = assembly.name_split(config, store, split)
    folder = runs.make_run_folder(wanted)
    OmegaConf.save(config, folder / runs.CONFIG, resolve=True)
    stored = features.embeddings.store if features.embeddings else None
    about = assembly.describe(config, module, data, stored)
    runs.write_json(folder / runs.ENVIRONMENT, runs.environment() | about)
    loggers = open_tracking(folder, name, assembly.plain(config))
    notes = (*features.notes, kept)
    return Run(name, folder, config, data, module, loggers, console, stored, notes)


def _settle_name(config: DictConfig) -> None:
    """Slots that the command line adds to a decoder stand in the run's name, unless it gives one."""
    if not any(word.startswith("name=") for word in task_words()):
        config.name = "+".join([config.name, *added("decoder/slots@decoder")])


def _check_processes(trainer: Trainer) -> None:
    """Refuse several: each would score and report for itself, and write over what others wrote."""
    if trainer.world_size > 1:
        raise ConfigError(
            f"trainer.devices and trainer.num_nodes make {trainer.world_size} processes, but train runs "
            "in one so far: choose trainer.devices=1, and embed with as many as you like."
        )


def _announce(run: Run) -> None:
    sides = ", ".join(f"{len(t)} {side}" for side, t in run.data.split._asdict().items() if t)
    parameters = sum(p.numel() for p in run.module.decoder.parameters()) / 1e6
    run.console.print(f"[bold]{run.name}[/bold]: decoder of {parameters:.2f} M parameters")
    run.console.print(f"store: {run.data.store.address} (tissues: {sides})", soft_wrap=True)
    run.console.print(f"run folder: {run.folder}", soft_wrap=True)
    for line in (*run.notes, *run.module.describe()):
        _say(run, line)
    spec = run.module.spec
    for part in (part for part in spec.parts or (spec,) if part.random_init):
        run.console.print(
            f"[yellow]notice: encoder={part.name} has random weights and has learnt "
            "nothing: these scores say what the decoder makes of the image, not what an encoder is worth",
            soft_wrap=True,
        )
    data = run.data
    for line in (*data.describe_scaling(), *data.describe_augmentation(), *data.sampling.notes):
        run.console.print(f"[yellow]notice: {line}", soft_wrap=True)


def _fit(run: Run) -> bool:
    """Train; False when it was interrupted."""
    from lightning.pytorch.callbacks import EarlyStopping

    from tissueseg import assembly
    from tissueseg.modules.averaging import Averaging
    from tissueseg.modules.callbacks import BestDecoder, CtrlC
    from tissueseg.modules.checkpoint import AS_LOADED
    from tissueseg.modules.cost import Cost
    from tissueseg.modules.history import History
    from tissueseg.reporting import runs

    config, path = run.config, run.folder / runs.DECODER
    ctrl_c = CtrlC()
    callbacks = [
        Cost(partial(runs.write_json, run.folder / runs.COST)),
        BestDecoder(config.monitor, assembly.keep_decoder(config, run.data, run.module, path)),
        EarlyStopping(config.monitor, mode="max", patience=config.patience, check_finite=False),
        assembly.build_panels(config, run.data, run.folder / runs.PANELS),
        History(run.folder, echo=not run.console.is_terminal),
        ctrl_c,
    ]
    if config.ema is not None:  # the last: what the others see in a validation is its average
        callbacks.append(Averaging(config.ema))
    if config.epochs == 0:
        assembly.keep_decoder(config, run.data, run.module, path)(run.module, AS_LOADED, math.nan)
        return True
    trainer = assembly.build_trainer(config, run.console, callbacks, run.loggers)
    try:
        with ctrl_c:
            trainer.fit(run.module, datamodule=run.data)
    except SystemExit:  # how Lightning ends after Ctrl-C
        if not trainer.interrupted:
            raise
    return not trainer.interrupted


def _score(run: Run) -> None:
    """Score the kept decoder, not the last one."""
    from tissueseg import assembly
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.modules.scoring import PixelCalibration, StudyDice, count
    from tissueseg.modules.tracking import close_tracking
    from tissueseg.reporting import runs
    from tissueseg.reporting.outcomes import outcome_of
    from tissueseg.reporting.scores import run_metrics, side_scores
    from tissueseg.reporting.tables import class_table

    checkpoint = load_decoder(run.folder / runs.DECODER)
    checkpoint.restore(run.module.decoder, run.module.encoder)
    folder, shown = run.folder / runs.PANELS, ("val", "test")
    panels = assembly.build_panels(run.config, run.data, folder, shown)
    study = StudyDice(len(checkpoint.scored_classes), run.config.data.batch_size)
    calibration = PixelCalibration()
    callbacks = [panels, study, calibration]
    trainer = assembly.build_trainer(run.config, run.console, callbacks, every_tile=True)
    sides = {}
    for side in (side for side in shown if getattr(run.data.split, side)):
        counts = count(trainer, run.module, run.data, side)
        runs.save_confusion(run.folder, side, counts)
        tissues = getattr(run.data.split, side)
        sides[side] = side_scores(counts, tissues, checkpoint.train_pixels)
        sides[side] |= {"study": study.scores(), "calibration": calibration.scores()}
    about = checkpoint.about(run.config.name)
    runs.write_json(run.folder / runs.METRICS, run_metrics(about, sides))
    run.console.print(class_table(about, sides))
    close_tracking(run.loggers, outcome_of(run.folder, checkpoint, about, sides, run.features))


def _say(run: Run, line: str) -> None:
    run.console.print(line, highlight=False, soft_wrap=True, markup=False)


def main() -> None:
    """The command: a training here, or each one of a sweep in a process of its own."""
    end_with_sweep()
    run_command("train", train, start_apart)


if __name__ == "__main__":
    main()
