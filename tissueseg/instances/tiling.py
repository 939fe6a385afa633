"""Where overlapping tiles lie that cover a tissue, and how much of each pixel each of them says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError
from tissueseg.numbers import check_whole

BLENDS = ("linear", "core")


class Span(NamedTuple):
    """What one row (or column) of tiles contributes along its axis."""

    start: int  # of the tile; may lie before the tissue, as its end may lie beyond
    first: int  # what it contributes to …
    stop: int  # … and one past it, within the tissue
    weights: np.ndarray  # (stop - first,) float32, 0 < weight ≤ 1

    def after(self, offset: int) -> slice:
        """Of an array that begins at `offset`: what it contributes to."""
        return slice(self.first - offset, self.stop - offset)


@dataclass(frozen=True)
class Tiling:
    """Overlapping tiles that cover a tissue; they may reach beyond it, where images are mirrored.

    `linear`: the first tile starts at 0, so that a tissue of one tile's size is one tile. Weights are
    ramps over the overlaps. `core`: the first tile starts half an overlap before the tissue, and every
    pixel comes from the one tile whose middle is nearest. Either way what the tiles of whole strides
    contribute ends at most one overlap beyond a multiple of the stride: choose regions of whole strides.
    """

    shape: tuple[int, int]  # (height, width) of the tissue
    tile_px: int  # side of a tile
    overlap_px: int = 0  # of neighbours; linear: at most half a tile
    blend: str = "linear"  # or core

    def __post_init__(self) -> None:
        if self.blend not in BLENDS:
            raise ConfigError(f"blend={self.blend}, wanted one of {', '.join(BLENDS)}.")
        for side, size in zip(("height", "width"), self.shape, strict=True):
            check_whole(f"shape ({side})", size, 1)
        check_whole("tile_px", self.tile_px, 1)
        most = self.tile_px // 2 if self.blend == "linear" else self.tile_px - 1
        note = f"{self.blend} blend of tiles of {self.tile_px}"
        check_whole("overlap_px", self.overlap_px, 0, most, note=note)

    @property
    def stride_px(self) -> int:
        """From one tile to the next."""
        return self.tile_px - self.overlap_px

    def spans(self, axis: int) -> list[Span]:
        """The rows (0) or columns (1) of tiles; at every pixel their weights add up to exactly 1."""
        size, stride = self.shape[axis], self.stride_px
        if self.blend == "core":
            starts = range(-(self.overlap_px // 2), size - self.overlap_px // 2, stride)
            firsts = range(0, size, stride)
            return [
                self._span(a, b, size, _flat(stride)) for a, b in zip(starts, firsts, strict=True)
            ]
        starts = range(0, max(size - self.overlap_px, 1), stride)
        weights = (self._ramps(k > 0, k + 1 < len(starts)) for k in range(len(starts)))
        return [self._span(a, a, size, of) for a, of in zip(starts, weights, strict=True)]

    def _span(self, start: int, first: int, size: int, weights: np.ndarray) -> Span:
        stop = min(first + len(weights), size)
        return Span(start, first, stop, weights[: stop - first])

    def _ramps(self, rises: bool, falls: bool) -> np.ndarray:
        """(tile,) weights of a tile with neighbours before and behind it, or without."""
        weights, overlap = _flat(self.tile_px), self.overlap_px
        ramp = ((np.arange(overlap) + 0.5) / max(overlap, 1)).astype(np.float32)
        # Below a half it is what the other one leaves of 1: such differences are exact in float32.
        ramp = np.where(ramp < 0.5, 1 - ramp[::-1], ramp)
        if rises:
            weights[:overlap] = ramp
        if falls:
            weights[self.tile_px - overlap :] = ramp[::-1]
        return weights


def _flat(length: int) -> np.ndarray:
    return np.ones(length, dtype=np.float32)
