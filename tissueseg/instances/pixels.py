"""Which pixels belong to which cell: cells numbered without gaps, and their pixels cell after cell.

A label image is cut into horizontal runs, far fewer than its pixels. Sorted by cell they give every
cell's pixels in one stretch, so that whatever is measured of cells is a sum over stretches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tissueseg.errors import TissueDataError


class Runs(NamedTuple):
    """Horizontal stretches of pixels of one cell, cell after cell and in reading order within each."""

    cell: np.ndarray  # (n_runs,) int64, from 0
    start: np.ndarray  # (n_runs,) int64, flat index of the first pixel
    length: np.ndarray  # (n_runs,) int64, pixels


class Pixels(NamedTuple):
    """Flat indices of the pixels of n cells, cell after cell."""

    index: np.ndarray  # (n_pixels,) int64
    starts: np.ndarray  # (n + 1,) int64: cell i has index[starts[i]:starts[i + 1]], maybe none

    @property
    def counts(self) -> np.ndarray:
        """(n,) pixels of each cell."""
        return np.diff(self.starts)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(n,) float64 sums of (n_pixels,) values over each cell; 0 for cells without pixels."""
        total, filled = np.zeros(len(self.starts) - 1), self.counts > 0
        if filled.any():
            total[filled] = np.add.reduceat(values, self.starts[:-1][filled], dtype=np.float64)
        return total


class Numbered(NamedTuple):
    """Labels with small numbers in place of ids, in their order."""

    image: np.ndarray  # (H, W) int32: 0 background, 1 … m all cells of the window
    ids: np.ndarray  # (n,) int64, ascending, of the cells asked for
    row: np.ndarray  # (m + 1,) int64: where a number's id stands among these; -1: not asked for

    @property
    def highest(self) -> int:
        """Number in the image."""
        return len(self.row) - 1


def number(labels: np.ndarray, own: np.ndarray) -> Numbered:
    """Number the cells of a window.

    Args:
        labels: (H, W) ids of cells, of any integer type and with gaps; 0 background.
        own: ids that are asked for, in any order.

    Raises:
        TissueDataError: an id that the window does not show, or one below 0.
    """
    first, length = _stretches(labels)
    shown, which = _distinct(labels.reshape(-1)[first].astype(np.int64))
    ids = np.unique(np.asarray(own, np.int64))
    place = np.searchsorted(shown, ids)
    if shown.min(initial=0) < 0:
        raise TissueDataError(
            f"labels go down to {shown.min()}, wanted ids from 1 and 0 for background: relabel them."
        )
    absent = ids[(np.append(shown, -1)[place] != ids) | (ids <= 0)]
    if len(absent):
        raise TissueDataError(
            f"{len(absent)} cells to measure, the first with id {absent[0]}, have no pixel in the "
            "window: ask for ids that its labels show."
        )
    numbers = np.cumsum(shown != 0, dtype=np.int32)
    row = np.full(np.count_nonzero(shown) + 1, -1)
    row[numbers[place]] = np.arange(len(ids))
    image = np.repeat(numbers[which], length).reshape(labels.shape)
    return Numbered(image, ids, row)


def cut(image: np.ndarray, row: np.ndarray) -> Runs:
    """Runs of an (H, W) image of numbers, of those that have a row; what else it shows is left out."""
    first, length = _stretches(image)
    cell = row[image.reshape(-1)[first]]
    kept = np.flatnonzero(cell >= 0)
    kept = kept[np.argsort(cell[kept], kind="stable")]
    return Runs(cell[kept], first[kept], length[kept])


def spread(runs: Runs, count: int) -> Pixels:
    """Every pixel of `count` cells, in the order of their runs."""
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(per_cell(runs.cell, runs.length, count), out=starts[1:])
    before = np.cumsum(runs.length) - runs.length
    index = np.repeat(runs.start - before, runs.length)
    index += np.arange(len(index))
    return Pixels(index, starts)


def per_cell(cell: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(count,) float64 sums of values over what has the same cell; exact for integers below 2⁵³."""
    sums = np.bincount(cell, weights=values, minlength=count)
    return sums.astype(np.float64, copy=False)  # of nothing they are integers


def _stretches(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First flat index and length of every stretch of one value within a row, background too."""
    starts = np.ones(image.shape, dtype=bool)
    np.not_equal(image[:, 1:], image[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    return first, np.diff(first, append=image.size)


def _distinct(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `np.unique` with the inverse, without sorting where ids are close together."""
    least = ids.min(initial=0)
    span = int(ids.max(initial=0)) - int(least) + 1
    if span > 8 * len(ids):
        return np.unique(ids, return_inverse=True)
    there = np.zeros(span, dtype=bool)
    there[ids - least] = True
    return np.flatnonzero(there) + least, (np.cumsum(there) - 1)[ids - least]
