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
    values = np.sort(channel, axis=None)
    clips = np.quantile(values, QUANTILES)
    logs = np.log1p(values.astype(np.float64))
    stored = {
        str(q): asdict(_clipped(logs, clip)) for q, clip in zip(QUANTILES, clips, strict=True)
    }
    return {"max": float(values[-1]), "quantiles": stored}


def clip_statistics(stored: dict[str, Any], quantile: float) -> ClipStatistics:
    """Read one quantile back; KeyError when it was not computed at ingestion."""
    return ClipStatistics(**stored["quantiles"][str(quantile)])


def _clipped(logs: np.ndarray, clip: float) -> ClipStatistics:
    clipped = np.minimum(logs, np.log1p(clip))
    return ClipStatistics(float(clip), float(clipped.mean()), float(np.square(clipped).mean()))
