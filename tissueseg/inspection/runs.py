"""Connected pieces of equal labels in one window, found from runs of pixels rather than from pixels.

A row of a label image is a few runs of equal values. Linking runs that touch is a hundred times less
work than linking pixels, and unlike a binary labelling it keeps touching nuclei apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components


class Runs(NamedTuple):
    """Stretches of a row with one instance and one class, in reading order; background left out."""

    label: np.ndarray
    kind: np.ndarray  # class id
    row: np.ndarray
    start: np.ndarray  # first column
    stop: np.ndarray  # column after the last
    stray_px: int  # background pixels that have a class


class Pieces(NamedTuple):
    """8-connected parts of instances, ordered by label."""

    label: np.ndarray
    area: np.ndarray  # px
    top: np.ndarray
    left: np.ndarray
    bottom: np.ndarray  # row after the last
    right: np.ndarray


def runs_of(instances: np.ndarray, classes: np.ndarray, ignore: int) -> Runs:
    """Runs of a window, (H, W) each; `ignore` is the class id that says nothing."""
    height, width = instances.shape
    keys = (instances.astype(np.int64) << 8 | classes).ravel()
    begins = np.ones(keys.size, bool)
    np.not_equal(keys[1:], keys[:-1], out=begins[1:])
    begins[::width] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=height * width)
    label, kind = keys[starts] >> 8, keys[starts] & 255
    stray = (label == 0) & (kind != 0) & (kind != ignore)
    kept = label > 0
    row, start = np.divmod(starts[kept], width)
    stop = start + lengths[kept]
    return Runs(label[kept], kind[kept], row, start, stop, int(lengths[stray].sum()))


def pieces_of(runs: Runs, width: int) -> Pieces:
    """Put runs of one label that touch, also diagonally, together.

    Args:
        runs: of a window.
        width: of the window, px.
    """
    n = len(runs.label)
    if n == 0:
        return Pieces(*(np.zeros(0, np.int64) for _ in Pieces._fields))
    above, below = _links(runs, width)
    graph = csr_matrix((np.ones(len(above), bool), (above, below)), (n, n))
    count, piece = connected_components(graph, directed=False)
    # pieces in the order of their labels, the runs of each in one stretch
    order = np.lexsort((piece, runs.label))
    begins = np.flatnonzero(np.diff(piece[order], prepend=-1))
    assert len(begins) == count
    row, start, stop = (values[order] for values in (runs.row, runs.start, runs.stop))
    return Pieces(
        label=runs.label[order][begins],
        area=np.add.reduceat(stop - start, begins),
        top=np.minimum.reduceat(row, begins),
        left=np.minimum.reduceat(start, begins),
        bottom=np.maximum.reduceat(row, begins) + 1,
        right=np.maximum.reduceat(stop, begins),
    )


def _links(runs: Runs, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs of one label that touch: within a row, or between a row and the next."""
    stride = width + 2  # rows apart, so that a run's neighbours never include the row beyond
    first, last = runs.row * stride + runs.start, runs.row * stride + runs.stop
    low = np.searchsorted(last, first + stride - 1, side="right")
    high = np.searchsorted(first, last + stride + 1, side="left")
    counts = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(first)), counts)
    offsets = np.arange(len(above)) - np.repeat(np.cumsum(counts) - counts, counts)
    below = np.repeat(low, counts) + offsets
    beside = np.flatnonzero(last[:-1] == first[1:])  # an instance that changes class in a row
    above, below = np.concatenate([above, beside]), np.concatenate([below, beside + 1])
    same = runs.label[above] == runs.label[below]
    return above[same], below[same]
