"""What a store remembers of each SP channel, so that no run has to read a cohort to scale it.

Intensities are clipped at a quantile of their own tissue, then `log1p`, then standardised by cohort
moments. The moments after clip and `log1p` are stored per tissue and quantile: pooling those of the
*training* tissues gives the cohort's exactly, without touching a pixel.

Counting is streamed and exact. Integers have few enough levels to count them all. Floats are counted by
the upper half of their bits, which orders them; a second and a third look at the pixels then settle the
quantiles and the highest level to the last bit, and the moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

QUANTILES = (0.99, 0.995, 0.999)

_LEVELS = 2**16
_ABSOLUTE = 0x7FFFFFFF  # a float's bits without its sign: -0.0 is 0

Reread = Callable[[], Iterable[np.ndarray]]
"""Gives the windows of an image once more, each (C, H, W)."""


@dataclass(frozen=True)
class ClipStatistics:
    """One channel of one tissue, for one clipping quantile."""

    clip: float  # intensity at the quantile
    log_mean: float  # mean of log1p(min(x, clip))
    log_square: float  # mean of its square

    @property
    def usable(self) -> bool:
        """False for channels that carry no signal: nothing above 0 at the quantile, or constant."""
        spread = self.log_square - self.log_mean**2
        return bool(np.isfinite(self.clip) and self.clip > 0 and spread > 1e-12)


class IntensityCounts:
    """Counts the intensities of every channel, window by window.

    Args:
        channels: how many.
        dtype: uint8, uint16 or float32.
    """

    def __init__(self, channels: int, dtype: np.dtype) -> None:
        self.dtype = np.dtype(dtype)
        self._counts = np.zeros((channels, _LEVELS), np.int64)
        self._max = np.zeros(channels)

    def add(self, window: np.ndarray) -> None:
        """Count one window, (C, H, W)."""
        for channel, plane in enumerate(window):
            self._counts[channel] += _histogram(_upper(plane))
        self._max = np.maximum(self._max, window.max(axis=(1, 2), initial=0))

    def statistics(
        self, reread: Reread, clips: Mapping[str, Sequence[float]] | None = None
    ) -> list[dict[str, Any]]:
        """Statistics of every channel, as stored.

        Args:
            reread: the same windows again, for float images.
            clips: quantile -> upper clips of all channels, to use instead of computing them.
        """
        whole = self.dtype.kind == "u"
        exact = [_Levels.of(c) for c in self._counts] if whole else self._refine(reread)
        wanted = [
            {q: _given(clips or {}, q, i, levels.quantile(q)) for q in QUANTILES}
            for i, levels in enumerate(exact)
        ]
        if whole:
            moments = [levels.moments(clip) for levels, clip in zip(exact, wanted, strict=True)]
        else:
            moments = self._float_moments(reread, wanted)
        return [
            {
                "max": float(self._max[i]),
                "zeros": levels.zeros(),
                "saturated": levels.highest(),
                "quantiles": {
                    str(q): asdict(ClipStatistics(wanted[i][q], *moments[i][q])) for q in QUANTILES
                },
            }
            for i, levels in enumerate(exact)
        ]

    def _refine(self, reread: Reread) -> list[_Levels]:
        """Exact levels and counts where they are asked for, with coarse ones elsewhere."""
        needed = [_bins_to_settle(counts) for counts in self._counts]
        fine = [np.zeros((len(bins), _LEVELS), np.int64) for bins in needed]
        for window in reread():
            for channel, plane in enumerate(window):
                bits = _bits(plane).ravel()
                for row, level in enumerate(needed[channel]):
                    inside = bits[bits >> 16 == level] & (_LEVELS - 1)
                    fine[channel][row] += np.bincount(inside, minlength=_LEVELS)
        return [
            _Levels.of_floats(counts, bins, low)
            for counts, bins, low in zip(self._counts, needed, fine, strict=True)
        ]

    def _float_moments(
        self, reread: Reread, clips: list[dict[float, float]]
    ) -> list[dict[float, tuple[float, float]]]:
        sums = np.zeros((len(clips), len(QUANTILES), 2))
        for window in reread():
            for channel, plane in enumerate(window):
                logs = np.log1p(plane.astype(np.float64).ravel())
                for row, q in enumerate(QUANTILES):
                    clipped = np.minimum(logs, np.log1p(clips[channel][q]))
                    sums[channel, row] += clipped.sum(), np.square(clipped).sum()
        totals = np.maximum(self._counts.sum(axis=1), 1)[:, None, None]
        means = (sums / totals).tolist()
        return [{q: (m, s) for q, (m, s) in zip(QUANTILES, rows, strict=True)} for rows in means]


@dataclass(frozen=True)
class _Levels:
    """Distinct intensities of a channel, ascending, and the pixels of each."""

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> _Levels:
        values = np.flatnonzero(counts)
        return cls(values, counts[values])

    @classmethod
    def of_floats(cls, counts: np.ndarray, bins: np.ndarray, fine: np.ndarray) -> _Levels:
        """Bins settled to the last bit, the others by their lowest value."""
        coarse = np.setdiff1d(np.flatnonzero(counts), bins)
        rows, low = np.nonzero(fine)
        keys = np.concatenate([coarse << 16, (bins[rows] << 16) | low]).astype(np.uint32)
        found = np.concatenate([counts[coarse], fine[rows, low]])
        order = np.argsort(keys, kind="stable")
        return cls(keys[order].view(np.float32), found[order])

    def zeros(self) -> float:
        """Share of pixels without any intensity."""
        return float(self.counts[self.values == 0].sum() / self.counts.sum())

    def highest(self) -> float:
        """Share of pixels at the highest level."""
        return float(self.counts[-1] / self.counts.sum())

    def quantile(self, q: float) -> float:
        """What `np.quantile` gives for the pixels, interpolated linearly between neighbours in rank."""
        ends = np.cumsum(self.counts)
        rank = q * (ends[-1] - 1)
        below, above = (
            self.values[np.searchsorted(ends, r, side="right")] for r in (rank // 1, -(-rank // 1))
        )
        return float(below + (float(above) - float(below)) * (rank % 1))

    def moments(self, clips: Mapping[float, float]) -> dict[float, tuple[float, float]]:
        """Mean and mean square of log1p(min(x, clip)), per quantile."""
        logs = np.log1p(self.values.astype(np.float64))
        return {q: self._clipped(logs, clip) for q, clip in clips.items()}

    def _clipped(self, logs: np.ndarray, clip: float) -> tuple[float, float]:
        clipped = np.minimum(logs, np.log1p(clip))
        mean, square = (float(np.average(x, weights=self.counts)) for x in (clipped, clipped**2))
        return mean, square


def clip_statistics(stored: dict[str, Any], quantile: float) -> ClipStatistics:
    """Read one quantile back; KeyError when it was not computed at ingestion."""
    return ClipStatistics(**stored["quantiles"][str(quantile)])


def _bits(plane: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(plane).view(np.uint32) & _ABSOLUTE


def _upper(plane: np.ndarray) -> np.ndarray:
    """What intensities are counted by: themselves, or the upper half of a float's bits."""
    if plane.dtype.kind == "u":
        return np.ascontiguousarray(plane)
    return (_bits(plane) >> 16).astype(np.uint16)


def _histogram(levels: np.ndarray) -> np.ndarray:
    """(65536,) counts of a uint8 or uint16 plane; OpenCV's counts are exact up to 2^24 pixels."""
    high = 256 if levels.dtype == np.uint8 else _LEVELS
    if levels.size >= 2**24 or 0 in levels.shape:
        return np.bincount(levels.ravel(), minlength=_LEVELS)
    counts = np.zeros(_LEVELS, np.int64)
    counts[:high] = cv2.calcHist([levels], [0], None, [high], [0, high]).ravel()
    return counts


def _bins_to_settle(counts: np.ndarray) -> np.ndarray:
    """Bins that hold the pixels between which a quantile lies, and that of the highest level.

    A bin is 1 % wide: many pixels in the highest one are no plateau yet.
    """
    ends = np.cumsum(counts)
    last = ends[-1] - 1
    ranks = {r for q in QUANTILES for r in (q * last // 1, -(-q * last // 1))} | {last}
    return np.unique([np.searchsorted(ends, rank, side="right") for rank in ranks])


def _given(
    clips: Mapping[str, Sequence[float]], quantile: float, channel: int, computed: float
) -> float:
    """The source's own clip, when it states one; 0 for those that are not finite."""
    if (listed := clips.get(str(quantile))) is None:
        return computed
    stated = float(listed[channel])
    return stated if np.isfinite(stated) and stated > 0 else 0.0
