"""One pass over a side of the split with a trained decoder: the counts every score comes from."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch import Trainer

from tissueseg.contracts import Batch, Outputs
from tissueseg.data.datamodule import TissueDataModule
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


class StudyDice(pl.Callback):
    """Scores a validation pass as the student study did, batch by batch, for comparison with it alone.

    Args:
        n_classes: that are scored, background included.
        batch_size: of the pass.
    """

    def __init__(self, n_classes: int, batch_size: int) -> None:
        self._metric = DiceStudy(n_classes, batch_size)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Outputs,  # pyright: ignore[reportIncompatibleMethodOverride]
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score a batch."""
        found = pixel_ids(outputs, batch)
        self._metric.update(found.predicted.cpu(), found.truth.cpu())

    def scores(self) -> dict[str, float]:
        """`dice_study_batch<n>`."""
        return self._metric.scores()
