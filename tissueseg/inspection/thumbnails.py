"""Whole tissues made small, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tissueseg.store.tissues import TissueStore


def thumbnail(
    store: TissueStore, tissue: str, kind: str, channels: Sequence[int], side_px: int
) -> np.ndarray:
    """Area means of an image whose longer side becomes `side_px`; smaller images as they are.

    Args:
        store: to read from.
        tissue: its name.
        kind: `he` or `sp`.
        channels: of the image, in the order wanted.
        side_px: of the result.

    Returns:
        (len(channels), height, width) float32, intensities as in the store.
    """
    entry = store.entry(tissue)
    shape = entry.height, entry.width
    factor = max(1.0, max(shape) / side_px)
    small = [max(1, round(length / factor)) for length in shape]
    sums, counts = np.zeros((len(channels), *small)), np.zeros(small)
    for window in store.windows(tissue):
        rows = _bins(window.y, window.height, shape[0], small[0])
        columns = _bins(window.x, window.width, shape[1], small[1])
        pixels = store.read(tissue, kind, window)
        place = np.ix_(rows.cells, columns.cells)
        for plane, i in enumerate(channels):
            summed = np.add.reduceat(pixels[i], rows.starts, axis=0, dtype=np.float64)
            sums[plane][place] += np.add.reduceat(summed, columns.starts, axis=1)
        counts[place] += np.outer(rows.lengths, columns.lengths)
    return (sums / counts).astype(np.float32)


class _Bins(NamedTuple):
    """Cells of the result that a stretch of pixels falls into."""

    cells: np.ndarray
    starts: np.ndarray  # first pixel of each, within the stretch
    lengths: np.ndarray  # pixels of each


def _bins(start: int, length: int, whole: int, cells: int) -> _Bins:
    place = np.arange(start, start + length) * cells // whole
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    return _Bins(place[starts], starts, np.diff(starts, append=length))
