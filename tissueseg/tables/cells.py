"""What is known of every cell of a tissue: class, area and centroid, counted window by window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tissueseg.store import layout
from tissueseg.store.tissues import TissueStore

_CLASSES = 256  # values of the class image, IGNORE among them


class Cells(NamedTuple):
    """Cells of a tissue by ascending id; a cell of several classes has the one of most pixels."""

    ids: np.ndarray  # (n,) int64, > 0
    classes: np.ndarray  # (n,) int64 class ids, IGNORE where unknown
    area_px: np.ndarray  # (n,) int64
    centroid_px: np.ndarray  # (n, 2) y and x of the mean pixel, whose centre is at + 0.5


def measure_cells(store: TissueStore, tissue: str) -> Cells:
    """Count the cells of a tissue; memory holds one window and a few numbers per cell."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for window in store.windows(tissue):
        instances = store.read(tissue, layout.INSTANCES, window)
        classes = store.read(tissue, layout.CLASSES, window)
        keys = np.where(instances > 0, instances.astype(np.int64) * _CLASSES + classes, 0)
        parts.append(_sum_runs(keys, window.y, window.x))
    keys, sums = _merge(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    return _cells(keys, sums)


def _sum_runs(keys: np.ndarray, top: int, left: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys > 0 of a window, and the number of their pixels and sums of y and x, (n, 3) int64.

    Runs of equal pixels in a row are summed at once: an order of magnitude fewer than pixels.
    """
    height, width = keys.shape
    new = np.ones((height, width), bool)
    new[:, 1:] = keys[:, 1:] != keys[:, :-1]
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=keys.size)
    found = keys.ravel()[starts]
    starts, lengths, found = (a[found > 0] for a in (starts, lengths, found))
    y, x = top + starts // width, left + starts % width
    sums = np.stack([lengths, lengths * y, lengths * x + lengths * (lengths - 1) // 2], axis=1)
    return _merge(found, sums)


def _merge(keys: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, ascending, with the sum of its rows."""
    if not keys.size:
        return keys, sums
    order = np.argsort(keys, kind="stable")
    keys, first = np.unique(keys[order], return_index=True)
    return keys, np.add.reduceat(sums[order], first, axis=0)


def _cells(keys: np.ndarray, sums: np.ndarray) -> Cells:
    """Cells from keys of (cell, class)."""
    owners = keys // _CLASSES
    ids, totals = _merge(owners, sums)
    order = np.lexsort((keys, -sums[:, 0], owners))  # of each cell, most pixels first
    first = np.unique(owners[order], return_index=True)[1]
    classes = keys[order][first] % _CLASSES
    return Cells(ids, classes, totals[:, 0], totals[:, 1:] / totals[:, :1])
