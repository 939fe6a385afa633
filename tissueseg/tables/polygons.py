"""Outlines as geometry formats want them: rings that turn the right way, counted by piece and cell."""

from __future__ import annotations

import numpy as np

from tissueseg.instances.cell_table import Outlines


def oriented(outlines: Outlines) -> np.ndarray:
    """Points with exterior rings counterclockwise and holes clockwise, as RFC 7946 has it.

    It counts axes as on a map, y upwards; on a picture, where y points down, the turn looks reversed.

    Returns:
        (n_points, 2) float64, in the rings of `outlines`.
    """
    points = outlines.points.astype(np.float64)
    if not len(points):
        return points
    starts, lengths = outlines.rings[:-1], np.diff(outlines.rings)
    begins = np.repeat(starts, lengths)
    x, y = (points - points[begins]).T  # about a point of the ring: exact far from the origin
    turns = np.zeros(len(points))
    turns[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    turns[outlines.rings[1:] - 1] = 0  # no edge leads from one ring's last point to the next ring
    wrong = (np.add.reduceat(turns, starts) < 0) != outlines.holes
    order = np.arange(len(points))
    backwards = begins + np.repeat(outlines.rings[1:], lengths) - 1 - order
    return points[np.where(np.repeat(wrong, lengths), backwards, order)]


def pieces(outlines: Outlines) -> np.ndarray:
    """(n_cells,) int64: exterior rings of every cell."""
    before = np.concatenate([[0], np.cumsum(~outlines.holes)])
    return np.diff(before[outlines.cells])


def bounds(points: np.ndarray, outlines: Outlines) -> np.ndarray:
    """(n_cells, 4): least x and y, and greatest x and y, of every cell."""
    if not len(points):
        return np.zeros((0, 4), points.dtype)
    firsts = outlines.rings[outlines.cells[:-1]]
    least = np.minimum.reduceat(points, firsts)
    return np.hstack([least, np.maximum.reduceat(points, firsts)])
