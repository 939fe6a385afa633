"""Mean squared error of horizontal and vertical maps, in nuclei and everywhere."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tissueseg.errors import TissueDataError
from tissueseg.metrics.averages import Scores, mean_defined, ratio
from tissueseg.metrics.by_image import CountsByImage


class HvError(CountsByImage):
    """Squared errors of every image.

    State (n_images, 4) float64: sum and number of values in true nuclei, then everywhere; windows add up.
    """

    def __init__(self, n_images: int, **options: Any) -> None:
        super().__init__(n_images, 4, dtype=torch.float64, **options)


def hv_counts(
    predicted: NDArray[np.floating],
    target: NDArray[np.floating],
    labels: NDArray[np.integer],
    valid: NDArray[np.bool_] | None = None,
) -> Scores:
    """Sum and count squared errors of a window.

    Args:
        predicted: (2, H, W) as the network says.
        target: (2, H, W), cut from `encode_hv` of the tissue: what a window cuts has other offsets.
        labels: (H, W) true instances, 0 = background.
        valid: (H, W) False where the truth is not known; None: it is everywhere.

    Returns:
        (4,) float64 for `HvError.update`.

    Raises:
        TissueDataError: maps and labels of different sizes, or a predicted map that is not finite.
    """
    if not predicted.shape == target.shape == (2, *labels.shape):
        raise TissueDataError(
            f"maps of shapes {predicted.shape} and {target.shape} for labels {labels.shape}, wanted "
            "(2, H, W); cut them alike."
        )
    known = np.ones(labels.shape, dtype=bool) if valid is None else valid
    squared = np.zeros(labels.shape)
    np.square(predicted.astype(np.float64) - target).sum(axis=0, out=squared, where=known)
    if not np.isfinite(squared).all():
        raise TissueDataError(
            "hv maps with values that are not finite, wanted numbers; see the head."
        )
    nuclei = known & (labels > 0)
    sums = (squared[nuclei].sum(), 2 * nuclei.sum(), squared.sum(), 2 * known.sum())
    return np.array(sums, np.float64)


def hv_scores(counts: ArrayLike) -> dict[str, float]:
    """Errors in nuclei (`hv_mse_pooled`, `hv_mse_image`) and everywhere (`hv_mse_unmasked_pooled` …).

    The study reported the latter, which background, where 0 is right, makes look small.

    Args:
        counts: (n_images, 4) as `HvError` computes.
    """
    counts = np.asarray(counts, np.float64)
    scores = {}
    for name, columns in (("hv_mse", slice(0, 2)), ("hv_mse_unmasked", slice(2, 4))):
        errors, n = counts[:, columns].T
        scores[f"{name}_pooled"] = float(ratio(errors.sum(), n.sum()))
        scores[f"{name}_image"] = float(mean_defined(ratio(errors, n)))
    return scores
