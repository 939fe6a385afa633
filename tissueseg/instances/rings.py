"""Rings around nuclei: the background nearest to each, up to some distance."""

from __future__ import annotations

import numpy as np

_STRIP_ROWS = 128


def rings(image: np.ndarray, radius_px: float) -> np.ndarray:
    """Give every background pixel near nuclei to the nearest of them.

    The exact Euclidean distance between centres of pixels counts; of nuclei at one distance the one
    whose nearest pixel comes first in reading order has it. So rings hold no nucleus, never overlap, and
    depend neither on numbers nor on anything further off.

    Distance² and the way to the nearest pixel are one integer, distance first. Its smallest value is
    found along columns, then along rows: squared distances add up, and so do ways.

    Args:
        image: (H, W) int32 numbers of nuclei, 0 background.
        radius_px: ≥ 1, may be a fraction.

    Returns:
        (H, W) int32 number of the nucleus whose ring a pixel is in; 0 in nuclei and far from them.
    """
    reach, most = int(radius_px), int(radius_px**2)
    side = 2 * reach + 1
    base = side * side  # of ways
    far = (2 * reach**2 + 1) * base
    kind = np.int32 if 2 * far < 2**31 else np.int64
    owner = np.zeros(image.shape, np.int32)
    for top in range(0, len(image), _STRIP_ROWS):  # so that a strip stays in the cache
        low, high = max(top - reach, 0), min(top + _STRIP_ROWS + reach, len(image))
        keys = np.where(image[low:high] > 0, kind(0), kind(far))
        keys = _nearest(keys, reach, base, side)[top - low :][:_STRIP_ROWS]
        keys = _nearest(keys.T, reach, base, 1).T
        strip = owner[top : top + _STRIP_ROWS]
        y, x = np.nonzero((keys < (most + 1) * base) & (image[top : top + _STRIP_ROWS] == 0))
        down, across = np.divmod(keys[y, x] % base, side)
        strip[y, x] = image[top + y + down - reach, x + across - reach]
    return owner


def _nearest(keys: np.ndarray, reach: int, base: int, unit: int) -> np.ndarray:
    """Smallest key + base · step² + unit · (step + reach) of those `step` further, −reach … reach."""
    best, further = keys + keys.dtype.type(unit * reach), np.empty_like(keys)
    for step in range(1, min(reach, len(keys) - 1) + 1):
        np.add(keys, base * step * step + unit * (reach - step), out=further)
        np.minimum(best[step:], further[:-step], out=best[step:])
        further += 2 * unit * step
        np.minimum(best[:-step], further[step:], out=best[:-step])
    return best
