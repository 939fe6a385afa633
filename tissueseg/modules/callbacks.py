"""What happens around training: the best decoder kept, panels drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger

from tissueseg.contracts import Batch, Outputs
from tissueseg.drawing import save_sheet
from tissueseg.metrics.pixels import predicted_ids
from tissueseg.modules.group import ALONE, Group
from tissueseg.modules.panels import Panel, draw_panel, joined
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
        """Leave a decoder even when no epoch was finished, if the disk takes it."""
        if self.best_epoch < 0:
            with suppress(OSError):  # not what ended the fit
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


class Panels(pl.Callback):
    """Draws image, truth, prediction, boundary and error of some fields of the sides it passes.

    Predictions are gathered tile by tile from what the step returns, in memory for these fields alone,
    and drawn when the epoch is over.

    Args:
        fields: `val` and `test` -> one panel per field.
        folder: where `<tissue>.png` goes.
        every_n_epochs: how often during a fit; a pass that only scores always draws.
        group: of processes, each of which sees some of a field's tiles.
    """

    def __init__(
        self,
        fields: Mapping[str, Sequence[Panel]],
        folder: Path,
        every_n_epochs: int,
        group: Group = ALONE,
    ) -> None:
        self._fields, self._folder, self._every = fields, folder, every_n_epochs
        self._group = group

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
        self._join(self._fields.get(side, ()))
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
        if self._group.of > 1:  # else the next pass would find the others' tiles of this one
            for panel in self._fields.get(side, ()):
                panel.maps = {}

    def _join(self, fields: Sequence[Panel]) -> None:
        """Gather what processes have seen of each field."""
        if self._group.of == 1:
            return
        parts = self._group.gathered([panel.maps for panel in fields])
        for panel, maps in zip(fields, zip(*parts, strict=True), strict=True):
            panel.maps = joined(maps) if self._group.leads else {}

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
