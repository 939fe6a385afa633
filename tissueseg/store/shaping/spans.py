"""Stretches of pixels along one axis of a tissue whose scale is changed, and what gives to what.

Target pixel i covers the source interval [i·f, (i+1)·f) with f = source length / target length, so
corners align. Every place and share is computed from whole numbers and the pixel's place in the tissue,
never from a window's: reading another window cannot change a pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

_SUPPORT_PX = 2  # source pixels that the cubic kernel reaches


class Span(NamedTuple):
    """A stretch of target pixels, and the source pixels it needs."""

    start: int
    stop: int  # target pixels
    low: int
    high: int  # source pixels
    source: int
    target: int  # lengths of the whole axis

    @classmethod
    def whole(cls, source: int, target: int) -> Span:
        """A whole axis."""
        return cls(0, target, 0, source, source, target)

    @classmethod
    def around(cls, start: int, stop: int, margin: int, source: int, target: int) -> Span:
        """Some target pixels and a margin, where the tissue has one."""
        first, last = max(0, start - margin), min(target, stop + margin)
        low = first * source // target - _SUPPORT_PX
        high = -(-last * source // target) + _SUPPORT_PX
        return cls(first, last, max(0, low), min(source, high), source, target)

    @property
    def shrinks(self) -> bool:
        """Whether there are fewer target pixels than source pixels."""
        return self.target < self.source

    def nearest(self) -> np.ndarray:
        """The source pixel under every target pixel's centre, counted from `low`."""
        target = np.arange(self.start, self.stop)
        return (2 * target + 1) * self.source // (2 * self.target) - self.low

    def touched(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The target pixels that each of n source pixels touches, and how much of them.

        Args:
            places: (n,) counted from `low`.

        Returns:
            (n, k) target pixels counted from `start`, and their shares, 0 for those outside the span.
        """
        source = (places + self.low)[:, None]
        reach = -(-self.target // self.source) + 1
        target = source * self.target // self.source + np.arange(reach)
        outside = (target < self.start) | (target >= self.stop)
        return target - self.start, np.where(outside, 0, self._overlap(source, target))

    def shares(self, start: int, stop: int) -> sparse.csr_array:
        """What source pixels give to some target pixels: by area, or cubic when there are more of them.

        The cubic kernel is that of Keys (1981, https://doi.org/10.1109/TASSP.1981.1163711), a = −1/2;
        pixels beyond the edge are taken as those on it.

        Returns:
            (stop − start, high − low), rows sum to 1.
        """
        target = np.arange(start, stop)[:, None]
        if self.target <= self.source:
            reach = self.source // self.target + 2
            source = target * self.source // self.target + np.arange(reach)
            share = self._overlap(source, target) / self.source
        else:
            unit = 2 * self.target
            centre = (2 * target + 1) * self.source - self.target  # in units, from a pixel's centre
            source = centre // unit + np.arange(1 - _SUPPORT_PX, 1 + _SUPPORT_PX)
            share = _cubic(np.abs(source * unit - centre) / unit)
        place = np.clip(source, 0, self.source - 1) - self.low
        place = np.clip(place, 0, self.high - self.low - 1)  # area: beyond the span lie zeros only
        ends = np.arange(len(target) + 1) * source.shape[1]
        entries = (share.ravel(), place.ravel(), ends)
        matrix = sparse.csr_array(entries, shape=(len(target), self.high - self.low))
        matrix.eliminate_zeros()
        return matrix

    def _overlap(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Length that source and target pixels share, in 1/`target` of a source pixel."""
        stop = np.minimum((source + 1) * self.target, (target + 1) * self.source)
        return np.maximum(stop - np.maximum(source * self.target, target * self.source), 0)


def _cubic(distance: np.ndarray) -> np.ndarray:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def resample_image(
    image: np.ndarray, rows: sparse.csr_array, columns: sparse.csr_array
) -> np.ndarray:
    """Resample channels one by one, so that one of them at a time is in floating point.

    A sparse product adds up a pixel's few terms in one order, whatever the window: results are equal to
    the last bit, which image libraries that take a sub-pixel window (as 32-bit floats) cannot promise.

    Args:
        image: (C, h, w) of any real type.
        rows: (H, h) shares.
        columns: (W, w) shares.

    Returns:
        (C, H, W) of the same type; whole numbers rounded and clipped to it, floats clipped at 0.
    """
    small = image.dtype.itemsize <= 2
    exact = np.float32 if small else np.float64
    across, down = columns.astype(exact), rows.astype(exact)
    shape = (len(image), len(rows.indptr) - 1, len(columns.indptr) - 1)
    made = np.empty(shape, image.dtype)
    for channel, plane in zip(made, image, strict=True):
        narrow = np.asarray(down @ plane.astype(exact))
        values = np.asarray(across @ np.ascontiguousarray(narrow.T)).T
        channel[:] = _as_type(values, image.dtype, plane)
    return made


def _as_type(values: np.ndarray, dtype: np.dtype, plane: np.ndarray) -> np.ndarray:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values), limits.min, limits.max)
    signed = plane.min(initial=0) < 0  # not ours to mend: the store's check names it
    return values if signed else np.maximum(values, 0)
