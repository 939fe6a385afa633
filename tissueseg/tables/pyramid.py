"""Levels of an OME-NGFF image, each half the one before, filled window by window."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import zarr

from tissueseg.store.layout import windows

LARGEST_PX = 512
"""Pyramids end with the first level that is no larger."""

Reduce = Callable[[np.ndarray], np.ndarray]
"""From (H, W) to (⌈H / 2⌉, ⌈W / 2⌉)."""


def level_count(shape: tuple[int, int], largest_px: int = LARGEST_PX) -> int:
    """Levels of an image of (height, width) `shape`, the full one among them."""
    return 1 + ((max(shape) - 1) // largest_px).bit_length()


def halved(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the next level."""
    return -(-shape[0] // 2), -(-shape[1] // 2)


def area_mean(image: np.ndarray) -> np.ndarray:
    """Mean of 2 × 2 pixels, of what there is of them at odd edges; integers round half to even.

    Args:
        image: (H, W).

    Returns:
        (⌈H / 2⌉, ⌈W / 2⌉) of the same type.
    """
    height, width = image.shape
    if height % 2 or width % 2:  # an edge seen twice weighs as much as one seen once
        image = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    mean = np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)
    for y, x in product((0, 1), (0, 1)):
        mean += image[y::2, x::2] * np.float32(0.25)
    return mean.astype(image.dtype) if image.dtype.kind == "f" else mean.round().astype(image.dtype)


def every_second(labels: np.ndarray) -> np.ndarray:
    """Every second pixel each way: a label is never mixed with another."""
    return labels[::2, ::2]


def fill_from(
    finer: zarr.Array, coarser: zarr.Array, shard: tuple[int, int], reduce: Reduce
) -> None:
    """Fill a level from the one before, channel by channel.

    Args:
        finer: (…, H, W).
        coarser: (…, ⌈H / 2⌉, ⌈W / 2⌉), empty so far.
        shard: height and width of the windows it is filled by; four times as much is held.
        reduce: makes one window of the other.
    """
    height, width = coarser.shape[-2:]
    for y, x, h, w in windows((height, width), shard):
        twice = np.s_[2 * y : 2 * (y + h), 2 * x : 2 * (x + w)]  # zarr cuts at the edge
        for channel in np.ndindex(coarser.shape[:-2]):
            made = reduce(np.asarray(finer[*channel, *twice]))
            coarser[*channel, y : y + h, x : x + w] = made
