"""What a network says of a window, whichever heads it has, and what every instance decoder is."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

import numpy as np


class Maps(NamedTuple):
    """Float32 maps of one window; what no head predicts is None."""

    foreground: np.ndarray  # (H, W) probability of nucleus
    hv: np.ndarray | None = None  # (2, H, W) offsets as `encode_hv` makes them
    boundary: np.ndarray | None = None  # (H, W) probability of a nucleus's rim
    classes: np.ndarray | None = None  # (C, H, W) probability of every class, background first


class InstanceDecoder(Protocol):
    """Turns the maps of a window into instances; safe to pickle, alike wherever it runs."""

    needs: ClassVar[tuple[str, ...]]
    """Fields of `Maps` it cannot do without, beside the foreground."""

    def reach_px(self, mpp: float) -> int:
        """How far beyond a pixel maps may change what becomes of it: the margin windows want."""
        ...

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        """Label a window.

        Args:
            maps: of the window.
            mpp: µm per pixel.

        Returns:
            (H, W) int32, 0 background, ids 1 … n without gaps, in reading order of first pixels.
        """
        ...
