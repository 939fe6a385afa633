"""One pass over a side of the split with a trained decoder: the counts every score comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics import Metric

from tissueseg.contracts import IGNORE, Batch, Outputs
from tissueseg.data.datamodule import TissueDataModule
from tissueseg.metrics.by_image import CountsByImage
from tissueseg.metrics.calibration import BINS, brier, ece, reliability
from tissueseg.metrics.pixels import pixel_ids
from tissueseg.metrics.study import DiceStudy
from tissueseg.modules.segmentation import SegmentationModule


def count(
    trainer: Trainer, module: SegmentationModule, data: TissueDataModule, side: str
) -> np.ndarray:
    """Confusion counts (n_tissues, n, n) [tissue, truth, prediction] of `val` or `test`."""
    if side == "val":
        trainer.validate(module, datamodule=data, verbose=False)
    else:
        trainer.test(module, datamodule=data, verbose=False)
    return module.confusion(side).compute().cpu().numpy()


class PassScore(pl.Callback, ABC):
    """Scores a pass over `val` or `test` from what its steps hand on; the next pass starts anew.

    Of several processes, each counts what it passes; asked for scores, which all of them must be, they
    add up. They count where they compute, for the processes may have no other way to each other.

    Args:
        metric: that counts.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    @abstractmethod
    def see(self, outputs: Outputs, batch: Batch) -> None:
        """Take in a batch."""

    @abstractmethod
    def scores(self) -> dict[str, Any]:
        """Of the last pass, in plain types."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self._metric.to(pl_module.device).reset()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self._metric.to(pl_module.device).reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Outputs,  # pyright: ignore[reportIncompatibleMethodOverride]
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        self.see(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Outputs,  # pyright: ignore[reportIncompatibleMethodOverride]
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        self.see(outputs, batch)


class StudyDice(PassScore):
    """Scores a pass as the student study did, batch by batch, for comparison with it alone.

    Args:
        n_classes: that are scored, background included.
        batch_size: of the pass.
    """

    def __init__(self, n_classes: int, batch_size: int) -> None:
        self._dice = DiceStudy(n_classes, batch_size)
        super().__init__(self._dice)

    def see(self, outputs: Outputs, batch: Batch) -> None:
        """Score a batch."""
        found = pixel_ids(outputs, batch)
        self._dice.update(found.predicted, found.truth)

    def scores(self) -> dict[str, float]:
        """`dice_study_batch<n>`."""
        return self._dice.scores()


class PixelCalibration(PassScore):
    """How far the probability of the likeliest class can be believed, over all known pixels alike.

    Pixels are added up where they lie.
    """

    def __init__(self) -> None:
        super().__init__(CountsByImage(1, BINS, 4, dtype=torch.float64))

    def see(self, outputs: Outputs, batch: Batch) -> None:
        """Add a batch."""
        self._metric.update(0, pixel_calibration_counts(outputs, batch))

    def scores(self) -> dict[str, Any]:
        """`ece` and `brier`, and what a reliability diagram shows: lists, one value a bin."""
        counts = self._metric.compute()[0].cpu().numpy()
        bins = reliability(counts)
        return {
            "low": bins.low.tolist(),
            "high": bins.high.tolist(),
            "pixels": bins.cells.astype(np.int64).tolist(),
            "confidence": bins.confidence.tolist(),
            "accuracy": bins.accuracy.tolist(),
            "ece": float(ece(counts)),
            "brier": float(brier(counts)),
        }


def pixel_calibration_counts(outputs: Outputs, batch: Batch) -> Tensor:
    """What `metrics.calibration.calibration_counts` counts of cells, of pixels and on their device.

    Args:
        outputs: with `classes` (B, C, H, W), else `foreground` (B, 1, H, W).
        batch: with the truth.

    Returns:
        (BINS, 4) float64: known pixels, and their sums of confidence, of hits and of squared errors.
    """
    predicted, truth = pixel_ids(outputs, batch)
    probs, known = _class_probs(outputs), truth != IGNORE
    of_truth = probs.gather(1, truth.long().where(known, 0)[:, None])[:, 0]
    # Σ_c (p_c − y_c)² = Σ_c p_c² − 2 p_truth + 1, without an image of the truth for each class.
    squared = probs.square().sum(1, dtype=torch.float64) - 2 * of_truth + 1
    confidence = probs.amax(1)[known].double()
    place = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    hits = (predicted == truth)[known].double()
    # Not bincount, whose weights have no deterministic form on CUDA.
    empty = confidence.new_zeros(BINS)
    values = (torch.ones_like(confidence), confidence, hits, squared[known])
    return torch.stack([empty.scatter_add(0, place, value) for value in values], 1)


def _class_probs(outputs: Outputs) -> Tensor:
    """(B, C, H, W) float32: of the classes, else of background and nucleus."""
    if "classes" in outputs:
        return outputs["classes"].float().softmax(1)
    nucleus = outputs["foreground"].float().sigmoid()
    return torch.cat([1 - nucleus, nucleus], 1)
