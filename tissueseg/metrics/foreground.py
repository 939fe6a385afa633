"""Dice of nucleus against background, from pixel counts of every image."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tissueseg.errors import TissueDataError
from tissueseg.metrics.averages import Scores, mean_defined, ratio
from tissueseg.metrics.by_image import CountsByImage


class BinaryDice(CountsByImage):
    """Foreground of every image.

    State (n_images, 3) int64: pixels in both, in the truth, in the prediction; windows add up. The counts
    are `foreground_counts` of a foreground map, or `Contingency.foreground_px` of decoded instances.
    """

    def __init__(self, n_images: int, **options: Any) -> None:
        super().__init__(n_images, 3, **options)


def foreground_counts(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Count the foreground of a window.

    Args:
        truth: (H, W) True in nuclei.
        predicted: (H, W) likewise.
        valid: (H, W) False where the truth is not known; None: it is everywhere.

    Returns:
        (3,) int64 for `BinaryDice.update`.

    Raises:
        TissueDataError: masks of different shapes.
    """
    if truth.shape != predicted.shape:
        raise TissueDataError(
            f"masks of shapes {truth.shape} and {predicted.shape}, wanted one shape; cut them alike."
        )
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    if valid is not None:
        truth, predicted = truth & valid, predicted & valid
    return np.array([np.count_nonzero(m) for m in (truth & predicted, truth, predicted)])


def foreground_scores(counts: ArrayLike) -> dict[str, float]:
    """`binary_dice_pooled`, of sums over images, and `binary_dice_image`, mean over images.

    Args:
        counts: (n_images, 3) as `BinaryDice` computes.
    """
    counts = np.asarray(counts)
    return {
        "binary_dice_pooled": float(binary_dice(counts.sum(axis=0))),
        "binary_dice_image": float(mean_defined(binary_dice(counts))),
    }


def binary_dice(counts: ArrayLike) -> Scores:
    """2|T ∩ P| / (|T| + |P|) of counts (..., 3); NaN without a nucleus in either."""
    both, truth, predicted = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return ratio(2 * both, truth + predicted)
