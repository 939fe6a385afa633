"""What is known of every cell of a tissue: class, area and centroid, counted window by window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tissueseg.store import layout
from tissueseg.store.planes import Window
from tissueseg.store.runs import ClassPixels, Runs, runs_of
from tissueseg.store.tissues import TissueStore


class Cells(NamedTuple):
    """Cells of a tissue by ascending id; a cell of several classes has the one of most pixels."""

    ids: np.ndarray  # (n,) int64, > 0
    classes: np.ndarray  # (n,) int64 class ids, IGNORE where unknown
    area_px: np.ndarray  # (n,) int64
    centroid_px: np.ndarray  # (n, 2) y and x of the mean pixel, whose centre is at + 0.5


def measure_cells(store: TissueStore, tissue: str) -> Cells:
    """Count the cells of a tissue; memory holds one window and a few numbers per cell."""
    parts: list[ClassPixels] = []
    places: list[tuple[np.ndarray, np.ndarray]] = []
    for window in store.windows(tissue):
        instances = store.read(tissue, layout.INSTANCES, window)
        runs = runs_of(instances, store.read(tissue, layout.CLASSES, window))
        parts.append(ClassPixels.of(runs))
        places.append(_added_up(runs.label, _sums(runs, window)))
    ids, classes = ClassPixels.joined(parts).majority()
    _, sums = _added_up(*(np.concatenate(part) for part in zip(*places, strict=True)))
    area = sums[:, 0]
    return Cells(ids.astype(np.int64), classes.astype(np.int64), area, sums[:, 1:] / area[:, None])


def _sums(runs: Runs, window: Window) -> np.ndarray:
    """(n, 3) int64: pixels of every run, and the sums of their y and x."""
    length, y, x = runs.length, window.y + runs.row, window.x + runs.start
    return np.stack([length, length * y, length * x + length * (length - 1) // 2], axis=1)


def _added_up(labels: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each label once, ascending, with the sum of its rows."""
    if not labels.size:
        return labels, sums
    order = np.argsort(labels, kind="stable")
    ids, first = np.unique(labels[order], return_index=True)
    return ids, np.add.reduceat(sums[order], first, axis=0)
