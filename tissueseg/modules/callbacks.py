"""What happens around training: the best decoder kept, Ctrl-C heeded, panels drawn."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger

from tissueseg.contracts import Batch, Outputs
from tissueseg.drawing import save_sheet
from tissueseg.metrics.pixels import predicted_ids
from tissueseg.modules.panels import Panel, draw_panel
from tissueseg.modules.segmentation import SegmentationModule


class BestDecoder(pl.Callback):
    """Keeps the decoder of the epoch with the highest monitored metric.

    The file is written the moment an epoch is the best so far, and once when a run breaks off before
    its first validation, so that whatever ends a run leaves a decoder; but for one that is not finite.

    Args:
        monitor: a logged metric, higher is better.
        save: (module, epoch, score) -> None.
    """

    def __init__(
        self, monitor: str, save: Callable[[SegmentationModule, int, float], None]
    ) -> None:
        self.monitor, self._save = monitor, save
        self.best_score, self.best_epoch = -math.inf, -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the decoder if this epoch is the best so far."""
        if trainer.sanity_checking or not _fitting(trainer):
            return
        score = float(trainer.callback_metrics.get(self.monitor, torch.tensor(math.nan)))
        if score > self.best_score or self.best_epoch < 0:
            self._keep(trainer, pl_module, score)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave a decoder even when no epoch was finished."""
        if self.best_epoch < 0:
            self._keep(trainer, pl_module, math.nan)

    def _keep(self, trainer: pl.Trainer, module: pl.LightningModule, score: float) -> None:
        if isinstance(module, SegmentationModule) and not module.is_finite():
            return  # nothing anyone could use
        self.best_score = score if math.isfinite(score) else -math.inf
        self.best_epoch = trainer.current_epoch
        if trainer.is_global_zero and isinstance(module, SegmentationModule):
            self._save(module, self.best_epoch, score)

    def state_dict(self) -> dict[str, Any]:
        """Which epoch leads."""
        return {"score": self.best_score, "epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the run before."""
        self.best_score, self.best_epoch = state_dict["score"], state_dict["epoch"]


class CtrlC(pl.Callback):
    """Ends a fit between two batches when Ctrl-C is pressed, and at once when it is pressed again.

    Raised wherever it finds Python, it may fall into a callback of the garbage collection, of which
    streaming has many: there it is printed and dropped, and training goes on. Used in a `with` statement
    around the fit, for Lightning puts handlers back that it found when the fit began.
    """

    def __init__(self) -> None:
        self._pressed = False
        self._before: Any = None

    def __enter__(self) -> CtrlC:
        """Take note of it from here on, unless it is not heeded at all."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        """Let it do again what it did before."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End here."""
        self._heed()

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """End here."""
        self._heed()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End before anything else begins."""
        self._heed()

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._pressed:
            raise KeyboardInterrupt
        self._pressed = True

    def _heed(self) -> None:
        if self._pressed:
            self._pressed = False
            raise KeyboardInterrupt


class Panels(pl.Callback):
    """Draws image, truth, prediction, boundary and error of some fields of the sides it passes.

    Predictions are gathered tile by tile from what the step returns, in memory for these fields alone,
    and drawn when the epoch is over.

    Args:
        fields: `val` and `test` -> one panel per field.
        folder: where `<tissue>.png` goes.
        every_n_epochs: how often during a fit; a pass that only scores always draws.
    """

    def __init__(
        self, fields: Mapping[str, Sequence[Panel]], folder: Path, every_n_epochs: int
    ) -> None:
        self._fields, self._folder, self._every = fields, folder, every_n_epochs

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Put the batch's tiles where they belong."""
        if self._due(trainer):
            self._gather("val", outputs, batch)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Put the batch's tiles where they belong."""
        self._gather("test", outputs, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, save and hand to W&B."""
        if self._due(trainer):
            self._draw("val", trainer)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, save and hand to W&B."""
        self._draw("test", trainer)

    def _gather(self, side: str, outputs: Outputs, batch: Batch) -> None:
        tissues, origins = batch.tissue.tolist(), batch.origin.tolist()
        fields = [panel for panel in self._fields.get(side, ()) if panel.tissue in tissues]
        if not fields:
            return
        maps = _maps(outputs)
        for panel in fields:
            for i in (i for i, tissue in enumerate(tissues) if tissue == panel.tissue):
                panel.place({name: values[i] for name, values in maps.items()}, *origins[i])

    def _draw(self, side: str, trainer: pl.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for panel in (panel for panel in self._fields.get(side, ()) if panel.maps):  # reached
            paths.append(self._folder / f"{panel.name}.png")
            save_sheet(draw_panel(panel), paths[-1])
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("panels", [str(path) for path in paths])

    def _due(self, trainer: pl.Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        return not _fitting(trainer) or (trainer.current_epoch + 1) % self._every == 0


def _fitting(trainer: pl.Trainer) -> bool:
    return trainer.state.fn == "fit"


def _maps(outputs: Outputs) -> dict[str, np.ndarray]:
    maps = {"classes": predicted_ids(outputs).to(torch.uint8)}
    if "boundary" in outputs:
        maps["boundary"] = (outputs["boundary"].float().sigmoid()[:, 0] * 255).to(torch.uint8)
    return {name: values.cpu().numpy() for name, values in maps.items()}
