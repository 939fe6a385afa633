"""Where cells lie and what shape they have: extent, moments, perimeter, contact with others.

Moments come from runs in closed form and lengths from rim pixels, so that the inside of cells is never
walked through.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tissueseg.instances.pixels import Runs, per_cell
from tissueseg.instances.rims import Rims

_LENGTHS = np.zeros(50)
_LENGTHS[[5, 7, 15, 17, 25, 27]] = 1
_LENGTHS[[21, 33]] = np.sqrt(2)
_LENGTHS[[13, 23]] = (1 + np.sqrt(2)) / 2


class Extent(NamedTuple):
    """Bounding boxes, (n,) int64 each, in pixels of the window; right and bottom are one past."""

    left: np.ndarray
    top: np.ndarray
    right: np.ndarray
    bottom: np.ndarray


class Moments(NamedTuple):
    """Of zeroth to second order, (n,) float64 each."""

    area: np.ndarray  # pixels
    x: np.ndarray  # centroid in pixels of the window, the first pixel's outer corner at 0
    y: np.ndarray
    eccentricity: np.ndarray  # 0 (circle) … 1 (line)


def extent(runs: Runs, width: int, count: int) -> Extent:
    """Bounding boxes of `count` cells, each with at least one run, in an image of that width."""
    if not count:
        return Extent(*np.zeros((4, 0), np.int64))
    row, left = np.divmod(runs.start, width)
    first = np.searchsorted(runs.cell, np.arange(count))
    last = np.append(first[1:], len(row)) - 1  # runs are in reading order
    right = np.maximum.reduceat(left + runs.length, first)
    return Extent(np.minimum.reduceat(left, first), row[first], right, row[last] + 1)


def moments(runs: Runs, box: Extent, width: int) -> Moments:
    """Areas, centroids and eccentricities.

    Eccentricity is √(1 − l₂ / l₁) for the eigenvalues l of the covariance of pixel centres, as
    scikit-image has it; 0 where a cell is a single pixel.
    """
    row, left = np.divmod(runs.start, width)
    # Coordinates within the bounding box keep sums small: nothing is lost when they are subtracted.
    y, x, n = row - box.top[runs.cell], left - box.left[runs.cell], runs.length
    sum_x = x * n + n * (n - 1) // 2  # Σ (x + i), i < n
    sum_xx = x * x * n + x * n * (n - 1) + (n - 1) * n * (2 * n - 1) // 6
    fields = (n, sum_x, y * n, sum_xx, y * y * n, y * sum_x)
    area, at_x, at_y, xx, yy, xy = (per_cell(runs.cell, field, len(box.top)) for field in fields)
    cov_xx, cov_yy = area * xx - at_x**2, area * yy - at_y**2  # times area²
    middle, half = (cov_xx + cov_yy) / 2, np.hypot((cov_xx - cov_yy) / 2, area * xy - at_x * at_y)
    # 1 − l₂ / l₁ with l = middle ± half
    share = np.divide(2 * half, middle + half, out=np.zeros_like(area), where=middle > 0)
    mean_x, mean_y = at_x / area + box.left + 0.5, at_y / area + box.top + 0.5
    return Moments(area, mean_x, mean_y, np.sqrt(share.clip(0, 1)))


def perimeters(rims: Rims) -> np.ndarray:
    """(n,) length of each cell's rim in pixels, holes' rims too, each cell taken as if it were alone.

    Every rim pixel counts 1, √2 or (1 + √2) / 2 by which of its neighbours are rim pixels of the same
    cell: Benkrid & Crookes, Design and FPGA implementation of a perimeter estimator, 2000, as
    `skimage.measure.perimeter(neighborhood=4)` has it. So single pixels have none.
    """
    rim = np.zeros_like(rims.flat)
    rim[rims.pixel] = rims.number
    code = np.ones(len(rims.pixel), np.int8)
    right, down = 1, rims.width
    for straight in (right, -right, down, -down):
        code += 2 * (rim[rims.pixel + straight] == rims.number).view(np.int8)
    for across in (down + right, down - right, -down + right, -down - right):
        code += 10 * (rim[rims.pixel + across] == rims.number).view(np.int8)
    return per_cell(rims.cell, _LENGTHS[code], rims.count)


def contacts(rims: Rims) -> np.ndarray:
    """(n,) share of each cell's pixel edges to anything else that are edges to other cells."""
    edges, touching = np.zeros((2, len(rims.pixel)), np.int8)
    for step in rims.steps:
        beside = rims.flat[rims.pixel + step]
        edge = beside != rims.number
        edges += edge
        touching += edge & (beside > 0)
    total = per_cell(rims.cell, edges, rims.count)
    return per_cell(rims.cell, touching, rims.count) / total
