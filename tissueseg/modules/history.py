"""A run's numbers per epoch: `metrics.csv` for people and spreadsheets, `history.npz` for code."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np

from tissueseg.modules.tracking import EpochRows

_LINE = ("train/loss", "val/loss", "val/dice/macro_foreground")


class History(pl.Callback):
    """Writes every logged metric after every epoch; holds no time, so equal runs give equal files.

    Among them are the curves that the study kept: `epoch`, `train/loss`, `val/loss` and
    `val/dice/macro_foreground`; one value an epoch, NaN where undefined.

    Args:
        folder: of the run.
        echo: also print one line per epoch, for logs without a progress bar.
    """

    def __init__(self, folder: Path, echo: bool = False) -> None:
        self._folder, self._echo = folder, echo
        self._rows: list[dict[str, float]] = []
        self._started = time.monotonic()
        self._rate = math.nan

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell trackers of the epochs before, where the fit goes on."""
        for logger in trainer.loggers:
            if self._rows and isinstance(logger, EpochRows):
                logger.go_on(self._rows)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the epoch's learning rate: when it ends, the scheduler has already gone on."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch and write both files."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": float(trainer.current_epoch), "lr": self._rate}
        row |= dict(sorted(found.items()))
        self._rows.append(row)
        if trainer.is_global_zero:
            self._write()
            if self._echo:
                self._print(row, trainer.max_epochs)

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, and the rate of the epoch that is under way."""
        return {"rows": self._rows, "rate": self._rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the rows of the run before."""
        self._rows, self._rate = list(state_dict["rows"]), state_dict["rate"]

    def _write(self) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        partial = self._folder / "metrics.csv.partial"
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({n: _cell(n, v) for n, v in row.items()} for row in self._rows)
        partial.replace(self._folder / "metrics.csv")
        columns = {n: np.array([row.get(n, math.nan) for row in self._rows]) for n in names}
        partial = self._folder / "history.npz.partial"
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **columns)
        partial.replace(self._folder / "history.npz")

    def _print(self, row: dict[str, float], epochs: int | None) -> None:
        shown = (f"{name} {row[name]:.4f}" for name in _LINE if name in row)
        seconds = time.monotonic() - self._started
        print(
            f"epoch {int(row['epoch']) + 1}/{epochs}  {'  '.join(shown)}  {seconds:.0f} s",
            flush=True,
        )


def _cell(name: str, value: float) -> str:
    """One number as text: exact, and empty where undefined."""
    if math.isnan(value):
        return ""
    return str(int(value)) if name == "epoch" else repr(value)
