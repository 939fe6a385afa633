"""Whether probabilities of types can be believed: expected calibration error and Brier score."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.averages import Scores, mean_defined, ratio
from tissueseg.metrics.by_image import CountsByImage

BINS = 15
"""Equally wide bins of confidence (Guo et al. 2017)."""


class Reliability(NamedTuple):
    """What a reliability diagram shows, one row a bin."""

    low: Scores  # (bins,) confidence above this
    high: Scores  # (bins,) up to this
    cells: Scores  # (bins,)
    confidence: Scores  # (bins,) mean, NaN without cells
    accuracy: Scores  # (bins,) share of right types, NaN without cells


class Calibration(CountsByImage):
    """Confidence and truth of matched cells, by image and bin.

    State (n_images, bins, 4) float64: cells, and sums of confidence, of hits and of squared errors.
    """

    def __init__(self, n_images: int, bins: int = BINS, **options: Any) -> None:
        super().__init__(n_images, bins, 4, dtype=torch.float64, **options)
        self.bins = bins

    def update(self, image: int, probs: ArrayLike, types: ArrayLike) -> None:
        """Count cells of an image, all or some.

        Args:
            image: its index.
            probs: (n, n_types) probabilities of types 1 … n_types of predictions that match a nucleus.
            types: (n,) of the nuclei they match; IGNORE: left out.
        """
        self._add(image, calibration_counts(probs, types, self.bins))


def calibration_counts(probs: ArrayLike, types: ArrayLike, bins: int = BINS) -> Scores:
    """Cells, confidence, hits and squared errors of each bin of the likeliest type's probability.

    Returns:
        (bins, 4) float64.

    Raises:
        TissueDataError: probabilities that are none, or types without a column.
    """
    probs, types = np.asarray(probs, np.float64), np.asarray(types, np.int64)
    _check(probs, types)
    probs, types = probs[types != IGNORE], types[types != IGNORE]
    column = types - 1
    confidence, hit = probs.max(axis=1, initial=0), probs.argmax(axis=1) == column
    right = np.zeros_like(probs)
    right[np.arange(len(types)), column] = 1
    squared = np.square(probs - right).sum(axis=1)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    sums = (np.ones(len(types)), confidence, hit.astype(np.float64), squared)
    binned = [np.bincount(place, values, minlength=bins) for values in sums]
    return np.stack(binned, axis=1).astype(np.float64)


def calibration_scores(counts: ArrayLike) -> dict[str, float]:
    """`ece_pooled` and `brier_pooled`, of all cells alike, and `…_image`, mean over images.

    Args:
        counts: (n_images, bins, 4) as `Calibration` computes.
    """
    counts = np.asarray(counts, np.float64)
    scores = {}
    for name, score in (("ece", ece), ("brier", brier)):
        scores[f"{name}_pooled"] = float(score(counts.sum(axis=0)))
        scores[f"{name}_image"] = float(mean_defined(score(counts)))
    return scores


def ece(counts: ArrayLike) -> Scores:
    """Σ_b n_b/n |accuracy_b − confidence_b| of counts (..., bins, 4) (Guo et al. 2017, eq. 3)."""
    cells, confidence, hits, _ = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return ratio(np.abs(hits - confidence).sum(axis=-1), cells.sum(axis=-1))


def brier(counts: ArrayLike) -> Scores:
    """Mean over cells of Σ_c (p_c − y_c)² of counts (..., bins, 4); 0 … 2 (Brier 1950)."""
    cells, _, _, squared = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return ratio(squared.sum(axis=-1), cells.sum(axis=-1))


def reliability(counts: ArrayLike) -> Reliability:
    """The rows of a reliability diagram, of counts (bins, 4): an image's, or their sum."""
    cells, confidence, hits, _ = np.asarray(counts, np.float64).T
    edges = np.linspace(0, 1, len(cells) + 1)
    return Reliability(edges[:-1], edges[1:], cells, ratio(confidence, cells), ratio(hits, cells))


def _check(probs: Scores, types: NDArray[np.int64]) -> None:
    fits = probs.ndim == 2 and len(probs) == len(types)
    if not fits or not np.isin(types, [*range(1, probs.shape[1] + 1), IGNORE]).all():
        raise TissueDataError(
            f"probs of shape {probs.shape} for {len(types)} types {np.unique(types)[:9].tolist()}, "
            "wanted (cells, types) and ids from 1; leave the background's column out."
        )
    typed = probs[types != IGNORE]
    if not ((typed >= 0) & (typed <= 1 + 1e-6)).all():  # NaN is not either
        raise TissueDataError(
            f"probs from {typed.min()} to {typed.max()}, wanted 0 to 1; give probabilities, not logits."
        )
