"""The pixels of cells that have something else beside them, found once for shapes and outlines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tissueseg.instances.pixels import Numbered


class Rims(NamedTuple):
    """Rim pixels of numbered cells, in an image with one pixel of background around it.

    So every pixel of the image has eight neighbours, at fixed distances in the flat one.
    """

    flat: np.ndarray  # ((H + 2) · (W + 2),) int32, numbers of cells
    width: int  # W + 2
    pixel: np.ndarray  # (n,) int64, ascending flat indices of rim pixels of the cells asked for
    number: np.ndarray  # (n,) int32, in the image
    cell: np.ndarray  # (n,) int64, from 0
    count: int  # of cells asked for

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """From a pixel to the one on its right, below, on its left and above."""
        return 1, self.width, -1, -self.width


def rims(numbered: Numbered) -> Rims:
    """Pixels of the cells asked for with another number above, below, left or right.

    Outside the image nothing is known, which counts as background.
    """
    padded = np.pad(numbered.image, 1)
    centre = padded[1:-1, 1:-1]
    rim = np.zeros(padded.shape, dtype=bool)
    inner = rim[1:-1, 1:-1]
    for beside in (padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2], padded[:-2, 1:-1]):
        inner |= beside != centre
    pixel, flat = np.flatnonzero(rim), padded.reshape(-1)
    cell = numbered.row[flat[pixel]]
    own = cell >= 0
    pixel = pixel[own]
    return Rims(flat, padded.shape[1], pixel, flat[pixel], cell[own], len(numbered.ids))
