"""Whole tissues made small, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tissueseg.store.planes import Window


class Thumbnail:
    """Area means of an image whose longer side becomes `side_px`; smaller images as they are.

    Args:
        shape: height and width of the image.
        channels: of the image, in the order wanted.
        side_px: of the result.
    """

    def __init__(self, shape: tuple[int, int], channels: Sequence[int], side_px: int) -> None:
        self._shape, self._channels = shape, channels
        factor = max(1.0, max(shape) / side_px)
        self._small = [max(1, round(length / factor)) for length in shape]
        self._sums, self._counts = np.zeros((len(channels), *self._small)), np.zeros(self._small)

    def add(self, window: Window, pixels: np.ndarray) -> None:
        """Take in one window, (all channels, height, width)."""
        rows = _bins(window.y, window.height, self._shape[0], self._small[0])
        columns = _bins(window.x, window.width, self._shape[1], self._small[1])
        place = np.ix_(rows.cells, columns.cells)
        for plane, i in enumerate(self._channels):
            summed = np.add.reduceat(pixels[i], rows.starts, axis=0, dtype=np.float64)
            self._sums[plane][place] += np.add.reduceat(summed, columns.starts, axis=1)
        self._counts[place] += np.outer(rows.lengths, columns.lengths)

    def image(self) -> np.ndarray:
        """(len(channels), height, width) float32, intensities as in the store."""
        return (self._sums / self._counts).astype(np.float32)


class _Bins(NamedTuple):
    """Cells of the result that a stretch of pixels falls into."""

    cells: np.ndarray
    starts: np.ndarray  # first pixel of each, within the stretch
    lengths: np.ndarray  # pixels of each


def _bins(start: int, length: int, whole: int, cells: int) -> _Bins:
    place = np.arange(start, start + length) * cells // whole
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    return _Bins(place[starts], starts, np.diff(starts, append=length))
