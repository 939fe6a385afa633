"""What a store remembers of each SP channel, so that no run has to read a cohort to scale it.

Intensities are clipped at a quantile of their own tissue, then `log1p`, then standardised by cohort
moments. The moments after clip and `log1p` are stored per tissue and quantile: pooling those of the
*training* tissues gives the cohort's exactly, without touching a pixel.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

QUANTILES = (0.99, 0.995, 0.999)


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


def channel_statistics(channel: np.ndarray) -> dict[str, Any]:
    """Maximum and clip statistics of one channel (H, W), as stored."""
    levels, counts = _levels(channel)
    logs = np.log1p(levels.astype(np.float64))
    clips = {q: _quantile(levels, counts, q) for q in QUANTILES}
    stored = {str(q): asdict(_clipped(logs, counts, clip)) for q, clip in clips.items()}
    return {"max": float(levels[-1]), "quantiles": stored}


def clip_statistics(stored: dict[str, Any], quantile: float) -> ClipStatistics:
    """Read one quantile back; KeyError when it was not computed at ingestion."""
    return ClipStatistics(**stored["quantiles"][str(quantile)])


def _levels(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct intensities, ascending, and the pixels of each; by counting where sorting is slower."""
    if channel.dtype in (np.uint8, np.uint16):
        counts = np.bincount(channel.ravel())
        levels = np.flatnonzero(counts)
        return levels, counts[levels]
    return np.unique(channel, return_counts=True)


def _quantile(levels: np.ndarray, counts: np.ndarray, q: float) -> float:
    """What `np.quantile` gives for the pixels, interpolated linearly between neighbours in rank."""
    ends = np.cumsum(counts)
    rank = q * (ends[-1] - 1)
    below, above = (
        levels[np.searchsorted(ends, r, side="right")] for r in (rank // 1, -(-rank // 1))
    )
    return float(below + (float(above) - float(below)) * (rank % 1))


def _clipped(logs: np.ndarray, counts: np.ndarray, clip: float) -> ClipStatistics:
    clipped = np.minimum(logs, np.log1p(clip))
    mean, square = (float(np.average(x, weights=counts)) for x in (clipped, np.square(clipped)))
    return ClipStatistics(float(clip), mean, square)
