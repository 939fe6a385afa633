"""Dice and IoU per class of confusion matrices, and their means: numbers alone, without torch.

A class that occurs in neither truth nor prediction has no score: NaN, left out of every mean. Reports
read finished counts, and start in a moment because this needs numpy only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tissueseg.metrics.averages import Scores, mean_defined, ratio


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


class Marginals(NamedTuple):
    """Pixels per class (..., n): all that Dice and IoU need of a confusion matrix, and as additive."""

    hit: Scores
    truth: Scores
    predicted: Scores


def marginals(confusion: ArrayLike) -> Marginals:
    """Of confusion matrices (..., n, n) [truth, prediction]."""
    counts = np.asarray(confusion, np.float64)
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    return Marginals(hit, counts.sum(axis=-1), counts.sum(axis=-2))


def dice_of(pixels: Marginals) -> Scores:
    """2|T ∩ P| / (|T| + |P|), (..., n); NaN for a class in neither."""
    return ratio(2 * pixels.hit, pixels.truth + pixels.predicted)


def iou_of(pixels: Marginals) -> Scores:
    """|T ∩ P| / |T ∪ P|, (..., n); NaN for a class in neither."""
    return ratio(pixels.hit, pixels.truth + pixels.predicted - pixels.hit)


def dice_per_class(confusion: ArrayLike) -> Scores:
    """2|T ∩ P| / (|T| + |P|) of confusion matrices (..., n, n); NaN for a class in neither."""
    return dice_of(marginals(confusion))


def iou_per_class(confusion: ArrayLike) -> Scores:
    """|T ∩ P| / |T ∪ P| of confusion matrices (..., n, n); NaN for a class in neither."""
    return iou_of(marginals(confusion))


def macro(values: ArrayLike, foreground: bool = False) -> float:
    """Unweighted mean over the classes that have a score; NaN when none has.

    Args:
        values: (n,) scores per class, background first.
        foreground: leave the background out.
    """
    return float(macros(values, foreground))


def macros(values: ArrayLike, foreground: bool = False) -> Scores:
    """`macro` of many: (..., n) -> (...)."""
    return mean_defined(np.asarray(values, np.float64)[..., 1 if foreground else 0 :], axis=-1)


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
