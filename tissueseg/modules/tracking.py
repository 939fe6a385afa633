"""Weights & Biases beside `metrics.csv`: offline unless a key is at hand, and never in the way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from tissueseg.errors import ConfigError

_INIT_SECONDS = 30
_MODES = ("online", "offline", "disabled")


def check_mode() -> None:
    """Refuse a `WANDB_MODE` that W&B would not take, before a run folder is made."""
    mode = os.environ.get("WANDB_MODE") or "offline"
    if mode not in _MODES:
        raise ConfigError(f"WANDB_MODE={mode} is unknown: choose from {', '.join(_MODES)}.")


def open_tracking(
    folder: Path, name: str, config: Mapping[str, Any], options: Mapping[str, Any]
) -> list[WandbLogger]:
    """Start a W&B run inside the run folder, on the first process only.

    The mode is `WANDB_MODE`, else `online` when a key is at hand (`WANDB_API_KEY`, `wandb login`), else
    `offline`. A server that does not answer makes the run offline: `wandb sync` sends it later.

    Args:
        folder: of the run.
        name: shown in W&B.
        config: resolved, shown beside the run.
        options: for `wandb.init`: project, entity, tags.
    """
    if rank_zero_only.rank != 0:
        return []
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    key_at_hand = wandb.login(prompt=False, verify=False)
    mode = os.environ.get("WANDB_MODE") or ("online" if key_at_hand else "offline")
    settings = wandb.Settings(silent=True, console="off", init_timeout=_INIT_SECONDS)
    start: dict[str, Any] = {
        **options,
        "name": name,
        "dir": str(folder),
        "config": dict(config),
        "settings": settings,
    }
    try:
        run = wandb.init(mode=mode, **start)  # pyright: ignore[reportArgumentType]
    except wandb.Error as error:
        print(f"W&B does not answer ({error}); the run is kept offline in {folder}", flush=True)
        run = wandb.init(mode="offline", **start)
    # Handing over a run, not options: Lightning 2.6 passes one that wandb 0.31 warns about.
    return [WandbLogger(experiment=run)]


def close_tracking(
    loggers: list[WandbLogger], scores: Mapping[str, float], panels: list[Path]
) -> None:
    """Send the kept decoder's scores and panels, and end the W&B run."""
    for logger in loggers:
        logger.experiment.summary.update(dict(scores))
        if panels:
            logger.log_image("panels/best", [str(path) for path in panels])
        logger.experiment.finish()
