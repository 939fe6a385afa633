"""One pass over a side of the split with a trained decoder: the counts every score comes from."""

from __future__ import annotations

import numpy as np
from lightning.pytorch import Trainer

from tissueseg.data.datamodule import TissueDataModule
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
