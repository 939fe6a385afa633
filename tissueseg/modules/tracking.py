"""W&B and TensorBoard beside `metrics.csv`: W&B offline unless a key is at hand, and never in the way."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from tissueseg.errors import ConfigError, in_one_line
from tissueseg.metrics.definitions import METRIC_DEFINITIONS
from tissueseg.modules.tracked_names import tracked_names
from tissueseg.modules.tracked_tables import Outcome, send

TENSORBOARD = "tensorboard"  # folder in the run folder

BEST = "val/best"

_INIT_SECONDS = 30
_MODES = ("online", "offline", "disabled")
_BEST = {"train/*": "min", "val/loss*": "min", "val/dice/*": "max", "val/iou/*": "max"}
"""Pattern -> what W&B sums a curve up to while it runs. No two may match: W&B takes either then."""


def check_tracking(options: Mapping[str, Any]) -> None:
    """Refuse what cannot be started, before a run folder is made.

    Args:
        options: the node `logger`.

    Raises:
        ConfigError: a `WANDB_MODE` that W&B would not take, a user without a home folder, in which
            W&B looks for keys, or TensorBoard is not installed.
    """
    mode = _mode_said() or "offline"
    if mode not in _MODES:
        raise ConfigError(f"WANDB_MODE={mode} is unknown: choose from {', '.join(_MODES)}.")
    if options.get("wandb") is not None and os.path.expanduser("~") == "~":  # noqa: PTH111 - raises nothing
        raise ConfigError(
            "logger=wandb wants a home folder, and this user has none: set HOME to a folder that can be "
            "written, or choose logger=csv."
        )
    if options.get("tensorboard") and find_spec("tensorboard") is None:
        raise ConfigError(
            "logger.tensorboard wants the package tensorboard, which is not installed: "
            "pip install 'tissueseg[tensorboard]', or choose logger=csv."
        )


def open_tracking(
    folder: Path,
    name: str,
    config: Mapping[str, Any],
    identity: str | None = None,
    goes_on: bool = False,
) -> list[Logger]:
    """Start what `config.logger` asks for inside the run folder, on the first process only.

    Args:
        folder: of the run.
        name: of the run.
        config: resolved, shown beside the run.
        identity: by which W&B knows the run again; None: a new one.
        goes_on: with epochs after those that were logged before.
    """
    if rank_zero_only.rank != 0:
        return []
    options, loggers = config["logger"], list[Logger]()
    if options.get("wandb") is not None:
        known = {"id": identity, "resume": "allow" if goes_on else None}
        loggers.append(_open_wandb(folder, name, config, options["wandb"] | {"known": known}))
    if options.get("tensorboard"):
        loggers.append(EpochBoard(folder, name=TENSORBOARD, version="", default_hp_metric=False))
    return loggers


def close_tracking(loggers: Sequence[Logger], outcome: Outcome) -> None:
    """Send what the kept decoder came to, and end the runs."""
    for logger in loggers:
        if isinstance(logger, EpochRows | EpochBoard):
            logger.close(outcome)


class EpochRows(WandbLogger):
    """One row of W&B's history per epoch, whatever was logged in it; `_step` is the epoch.

    Lightning logs validation and training apart, and pictures without an epoch: left to themselves
    they become rows of their own, which tables and exports then show as mostly empty.

    Args:
        run: of W&B. A run, not options: Lightning 2.6 passes one that wandb 0.31 warns about.
        monitor: metric whose best so far stands beside it. Searches choose by that: what W&B sums a
            curve up to is nested, and a run that is stopped early leaves nothing else.
        artifacts: whether they are sent when it ends.
    """

    def __init__(self, run: Any, monitor: str, artifacts: bool) -> None:
        super().__init__(experiment=run)
        self.monitor, self.artifacts = monitor, artifacts
        self._best, self._rows = -math.inf, 0
        self._held: dict[str, Any] = {}  # logged without an epoch

    def go_on(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log behind the epochs of a run that was stopped."""
        found = (row.get(self.monitor, math.nan) for row in rows)
        self._best = max((score for score in found if math.isfinite(score)), default=-math.inf)
        self._rows = len(rows)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add to the epoch's row, which the training metrics, the last to come, complete."""
        self._held |= metrics if step is None else {**metrics, "trainer/global_step": step}
        if "epoch" not in metrics:
            return
        row, self._held = self._held, {}
        if metrics.get(self.monitor, -math.inf) > self._best:  # NaN is not
            self._best = metrics[self.monitor]
        if self.monitor in metrics and math.isfinite(self._best):
            row[BEST] = self._best
        ends = any(key.startswith("train/") for key in metrics)
        epoch = int(metrics["epoch"])
        self.experiment.log(row, step=epoch, commit=ends)
        self._rows = epoch + 1

    @rank_zero_only
    def close(self, outcome: Outcome) -> None:
        """Send the kept decoder's tables and artifacts, and end; the scores are on disk already."""
        import wandb

        run = self.experiment
        try:
            if not run.disabled:
                send(run, outcome, self._rows, self.artifacts)
            run.finish()
        except (wandb.Error, OSError) as error:
            print(f"notice: W&B did not take all of the run: {in_one_line(error)}", flush=True)


class EpochBoard(TensorBoardLogger):
    """TensorBoard's scalars by epoch, so that runs with batches of other sizes share an axis."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log at the metrics' epoch."""
        super().log_metrics(dict(metrics), int(metrics.get("epoch", step or 0)))

    @rank_zero_only
    def close(self, outcome: Outcome) -> None:
        """Add the kept decoder's scores and panels at its epoch, and end."""
        epoch = max(outcome.about["epoch"], 0)
        for key, value in outcome.scores.items():
            self.experiment.add_scalar(f"kept/{key}", value, epoch)
        for path in outcome.panels:
            with Image.open(path) as panel:
                pixels = np.asarray(panel.convert("RGB"))
            self.experiment.add_image(f"panels/{path.stem}", pixels, epoch, dataformats="HWC")
        self.experiment.close()


def _open_wandb(
    folder: Path, name: str, config: Mapping[str, Any], options: Mapping[str, Any]
) -> EpochRows:
    """Start a W&B run.

    The mode is `WANDB_MODE`, else `online` when a key is at hand (`WANDB_API_KEY`, `wandb login`), else
    `offline`. A server that does not answer makes the run offline: `wandb sync` sends it later.

    Args:
        folder: of the run.
        name: of the run.
        config: resolved, shown beside the run.
        options: project, entity, tags, and whether artifacts are sent.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    asked = _mode_said()  # before W&B reads it, too
    import wandb

    mode = asked or ("online" if wandb.login(prompt=False, verify=False) else "offline")
    # A run before in this process, that failed, is still open: W&B would hand it out again.
    settings = wandb.Settings(
        silent=True, console="off", init_timeout=_INIT_SECONDS, reinit="finish_previous"
    )
    start: dict[str, Any] = {
        **tracked_names(name, config, options.get("tags") or ())._asdict(),
        "project": options.get("project"),
        "entity": options.get("entity"),
        "dir": str(folder),
        **options.get("known", {}),
        "config": {**config, "metric_definitions": METRIC_DEFINITIONS},
        "settings": settings,
    }
    try:
        run = wandb.init(mode=mode, **start)  # pyright: ignore[reportArgumentType]
    except wandb.Error as error:
        said = in_one_line(error)
        print(f"W&B does not answer ({said}); the run is kept offline in {folder}", flush=True)
        run = wandb.init(mode="offline", **start)
    run.define_metric("epoch")
    run.define_metric(BEST, step_metric="epoch", step_sync=False)
    for pattern, best in _BEST.items():
        run.define_metric(pattern, step_metric="epoch", step_sync=False, summary=best)
    return EpochRows(run, config.get("monitor", ""), options.get("artifacts", True))


def _mode_said() -> str | None:
    """`WANDB_MODE`; W&B stumbles over one that is set but empty, as scripts leave it."""
    if os.environ.get("WANDB_MODE") == "":
        del os.environ["WANDB_MODE"]
    return os.environ.get("WANDB_MODE")
