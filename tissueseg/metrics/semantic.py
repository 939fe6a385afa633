"""Dice and IoU per class from one confusion matrix, pooled over every pixel of a split.

Averaging scores of batches instead makes them depend on the batch size and gives absent classes a
free 1.0 (REFERENCE §1, fault 5). So the only state is counts, and a class that occurs in neither truth
nor prediction has no score: NaN, left out of every mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.averages import Scores, mean_defined, ratio


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


@dataclass(frozen=True)
class SemanticScores:
    """Scores of one confusion matrix; NaN where undefined."""

    dice: tuple[float, ...]  # per class
    iou: tuple[float, ...]  # per class
    truth_share: tuple[float, ...]  # of counted pixels, per class
    macro_dice: float  # mean over defined classes, with background
    macro_dice_foreground: float  # without
    macro_iou: float
    macro_iou_foreground: float


def semantic_scores(confusion: ArrayLike) -> SemanticScores:
    """All scores of a confusion matrix (n, n) [truth, prediction]; sum over tissues to pool them."""
    dice, iou = dice_per_class(confusion), iou_per_class(confusion)
    truth = np.asarray(confusion, np.float64).sum(axis=1)
    return SemanticScores(
        dice=tuple(dice.tolist()),
        iou=tuple(iou.tolist()),
        truth_share=tuple(ratio(truth, np.full_like(truth, truth.sum())).tolist()),
        macro_dice=macro(dice),
        macro_dice_foreground=macro(dice, foreground=True),
        macro_iou=macro(iou),
        macro_iou_foreground=macro(iou, foreground=True),
    )


def dice_per_class(confusion: ArrayLike) -> Scores:
    """2|T ∩ P| / (|T| + |P|) of a confusion matrix (n, n); NaN for a class in neither."""
    hit, truth, predicted = _marginals(confusion)
    return ratio(2 * hit, truth + predicted)


def iou_per_class(confusion: ArrayLike) -> Scores:
    """|T ∩ P| / |T ∪ P| of a confusion matrix (n, n); NaN for a class in neither."""
    hit, truth, predicted = _marginals(confusion)
    return ratio(hit, truth + predicted - hit)


def macro(values: ArrayLike, foreground: bool = False) -> float:
    """Unweighted mean over the classes that have a score; NaN when none has.

    Args:
        values: (n,) scores per class, background first.
        foreground: leave the background out.
    """
    return float(mean_defined(np.asarray(values, np.float64)[1 if foreground else 0 :]))


def prior_dice(train_pixels: ArrayLike, truth_pixels: ArrayLike) -> Scores:
    """Dice of guessing: each pixel's class drawn at random from the training frequencies.

    The floor a decoder must clear to have learnt anything. With training share p and share q in the
    truth, a class is expected to be hit on p·q and claimed on p of the pixels: 2pq/(p + q), the ratio of
    expectations, which over a split's millions of pixels is the expectation of the ratio.

    Args:
        train_pixels: (n,) counted training pixels of each class.
        truth_pixels: (n,) of the split that is scored.

    Returns:
        (n,); NaN for a class in neither.
    """
    p, q = (
        ratio(pixels, np.full_like(pixels, pixels.sum()))
        for pixels in (np.asarray(x, np.float64) for x in (train_pixels, truth_pixels))
    )
    return ratio(2 * p * q, p + q)


def _marginals(confusion: ArrayLike) -> tuple[Scores, Scores, Scores]:
    """Pixels per class: hit, in truth, predicted."""
    counts = np.asarray(confusion, np.float64)
    return np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)


def _check_ids(what: str, ids: Tensor, below: int) -> None:
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < below:
        raise TissueDataError(
            f"{what} ids run from {int(ids.min())} to {int(ids.max())}, wanted 0 to {below - 1}; "
            "compare the class map and the split with the store's description."
        )
