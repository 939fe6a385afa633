"""Rings around nuclei: the background nearest to each, up to some distance."""

from __future__ import annotations

import numpy as np

_STRIP_ROWS = 128


def rings(image: np.ndarray, radius_px: float, highest: int) -> np.ndarray:
    """Give every background pixel near nuclei to the nearest of them.

    The exact Euclidean distance between centres of pixels counts; of nuclei at one distance the lowest
    number has it. So rings hold no nucleus, never overlap, and depend on nothing further off.

    Distance and number are one integer, distance² first. Its smallest value is found along columns,
    then along rows: squared distances add up.

    Args:
        image: (H, W) int32 numbers of nuclei, 0 background.
        radius_px: ≥ 1, may be a fraction.
        highest: number in the image.

    Returns:
        (H, W) int32 number of the nucleus whose ring a pixel is in; 0 in nuclei and far from them.
    """
    base, reach, most = highest + 1, int(radius_px), int(radius_px**2)
    far = (2 * reach**2 + 1) * base
    kind = np.int32 if 2 * far < 2**31 else np.int64
    owner = np.zeros(image.shape, np.int32)
    for top in range(0, len(image), _STRIP_ROWS):  # so that a strip stays in the cache
        low, high = max(top - reach, 0), min(top + _STRIP_ROWS + reach, len(image))
        seen = image[low:high]
        keys = np.where(seen > 0, seen.astype(kind, copy=False), kind(far))
        keys = _nearest(keys, reach, base)[top - low :][:_STRIP_ROWS]
        keys = _nearest(keys.T, reach, base).T
        strip = np.s_[top : top + _STRIP_ROWS]
        ring = (keys <= most * base + highest) & (image[strip] == 0)
        owner[strip][ring] = keys[ring] % base
    return owner


def _nearest(keys: np.ndarray, reach: int, base: int) -> np.ndarray:
    """Smallest key + base · step² within `reach` steps along the first axis."""
    best, further = keys.copy(order="K"), np.empty_like(keys)
    for step in range(1, min(reach, len(keys) - 1) + 1):
        np.add(keys, base * step * step, out=further)
        np.minimum(best[step:], further[:-step], out=best[step:])
        np.minimum(best[:-step], further[step:], out=best[:-step])
    return best
