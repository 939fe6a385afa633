"""How many pixels of the rims of nuclei have a rim of the other side nearby: boundary F1."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tissueseg.errors import ConfigError
from tissueseg.instances.boundary import instance_boundary
from tissueseg.metrics.averages import Scores, mean_defined, ratio
from tissueseg.metrics.by_image import CountsByImage

_Mask = NDArray[np.bool_]

TOLERANCE_PX = 2.0
"""How far apart rims may lie and still be one."""


class BoundaryF1(CountsByImage):
    """Rim pixels of every image, and how many of them were hit.

    State (n_images, 4) int64: of the truth all and hit, of the prediction all and hit; windows add up.
    """

    def __init__(self, n_images: int, **options: Any) -> None:
        super().__init__(n_images, 4, **options)


def boundary_margin_px(tolerance_px: float = TOLERANCE_PX) -> int:
    """What a window must show around its core, wherever the tissue goes on."""
    return int(tolerance_px) + 1


def boundary_counts(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    valid: _Mask | None = None,
    core: tuple[slice, slice] | None = None,
    tolerance_px: float = TOLERANCE_PX,
) -> NDArray[np.int64]:
    """Count the rims of a window's core.

    Rims are `instance_boundary`'s, so that touching nuclei must be parted where the truth parts them. A
    pixel is hit when a rim pixel of the other side lies within the tolerance, between centres of
    pixels. Rims that near to unknown ground are not judged: what is beyond may have made them.

    Args:
        truth: (H, W) labels of the core and `boundary_margin_px` around it, 0 = background.
        predicted: (H, W) likewise.
        valid: (H, W) False where the truth is not known; None: it is everywhere.
        core: the part that is counted, which tiles the tissue; None: all of it.
        tolerance_px: at least 1.

    Returns:
        (4,) int64 for `BoundaryF1.update`.

    Raises:
        ConfigError: a tolerance below 1.
    """
    if tolerance_px < 1:
        raise ConfigError(f"tolerance_px={tolerance_px}, wanted at least 1 (published: 2).")
    near = _disc(tolerance_px)
    rims = [instance_boundary(labels) for labels in (truth, predicted)]
    judged = np.ones(truth.shape, dtype=bool) if valid is None else ~_grown(~valid, near)
    core = (slice(None), slice(None)) if core is None else core
    counts = []
    for rim, other in (rims, rims[::-1]):
        counted = (rim & judged)[core]
        counts += [counted.sum(), (counted & _grown(other, near)[core]).sum()]
    return np.array(counts, np.int64)


def boundary_scores(counts: ArrayLike) -> dict[str, float]:
    """`boundary_f1_pooled`, of sums over images, and `boundary_f1_image`, mean over images.

    Args:
        counts: (n_images, 4) as `BoundaryF1` computes.
    """
    counts = np.asarray(counts)
    return {
        "boundary_f1_pooled": float(boundary_f1(counts.sum(axis=0))),
        "boundary_f1_image": float(mean_defined(boundary_f1(counts))),
    }


def boundary_f1(counts: ArrayLike) -> Scores:
    """Harmonic mean of precision and recall of counts (..., 4).

    NaN where neither side has a rim, 0 where only one has.
    """
    truth, truth_hit, predicted, predicted_hit = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    precision, recall = ratio(predicted_hit, predicted), ratio(truth_hit, truth)
    product, total = np.nan_to_num(precision * recall), np.nan_to_num(precision + recall)
    score = np.divide(2 * product, total, out=np.zeros(total.shape), where=total > 0)
    return np.where(truth + predicted > 0, score, np.nan)


def _grown(mask: _Mask, near: NDArray[np.uint8]) -> _Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), near)) > 0


def _disc(radius_px: float) -> NDArray[np.uint8]:
    """All pixels whose centres lie within the radius."""
    offset = np.arange(-int(radius_px), int(radius_px) + 1)
    return (offset[:, None] ** 2 + offset**2 <= radius_px**2).astype(np.uint8)
