"""Dice and IoU per class from one confusion matrix, pooled over every pixel of a split.

Averaging scores of batches instead makes them depend on the batch size and gives absent classes a
free 1.0 (REFERENCE §1, fault 5). So the only state is counts, and a class that occurs in neither truth
nor prediction has no score: NaN, left out of every mean.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.semantic_scores import (
    SemanticScores,
    dice_per_class,
    iou_per_class,
    macro,
    prior_dice,
    semantic_scores,
)

__all__ = [
    "PooledConfusion",
    "SemanticScores",
    "dice_per_class",
    "iou_per_class",
    "macro",
    "prior_dice",
    "semantic_scores",
]


class PooledConfusion(Metric):
    """Pixel counts by tissue, true class and predicted class; IGNORE pixels are left out.

    Args:
        n_tissues: tissues `update` may name.
        n_classes: background included.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    confusion: Tensor

    def __init__(self, n_tissues: int, n_classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.n_tissues, self.n_classes = n_tissues, n_classes
        empty = torch.zeros(n_tissues, n_classes, n_classes, dtype=torch.int64)
        self.add_state("confusion", empty, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, classes: Tensor, tissue: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: (B, H, W) class ids.
            classes: (B, H, W) true class ids or IGNORE.
            tissue: (B,) index of each tile's tissue.

        Raises:
            TissueDataError: an id out of range, which would be counted under another one.
        """
        counted = classes != IGNORE
        truth, predicted = classes[counted].long(), predicted[counted].long()
        tissue = tissue.view(-1, 1, 1).expand_as(classes)[counted].long()
        n = self.n_classes
        _check_ids("true class", truth, n)
        _check_ids("predicted class", predicted, n)
        _check_ids("tissue", tissue, self.n_tissues)
        index = (tissue * n + truth) * n + predicted
        counts = torch.bincount(index, minlength=self.confusion.numel())
        self.confusion += counts.view_as(self.confusion)

    def compute(self) -> Tensor:
        """(n_tissues, n_classes, n_classes) int64: [tissue, truth, prediction]."""
        return self.confusion


def _check_ids(what: str, ids: Tensor, below: int) -> None:
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < below:
        raise TissueDataError(
            f"{what} ids run from {int(ids.min())} to {int(ids.max())}, wanted 0 to {below - 1}; "
            "compare the class map and the split with the store's description."
        )
