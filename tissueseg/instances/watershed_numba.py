"""The flood of `watershed`, pixel by pixel, compiled by numba: imported only where that is installed."""

import numba
import numpy as np
from numpy.typing import NDArray

from tissueseg.instances.watershed import LEVELS


def _walk(
    levels: NDArray[np.uint16], labels: NDArray[np.int32], free: NDArray[np.bool_], width: int
) -> None:
    """Flood flat images in place; arguments as of `flood_in_fronts`.

    Every level has a queue, a chain through `after`. A pixel below the level at work takes the flood
    back down to it at once, as it does a heap.
    """
    first = np.full(LEVELS, -1, np.int32)
    last = np.full(LEVELS, -1, np.int32)
    after = np.full(labels.size, -1, np.int32)
    steps = np.array((-width, -1, 1, width))
    for pixel in range(labels.size):
        if labels[pixel] == 0:
            continue
        open_side = False
        for step in steps:
            open_side |= free[pixel + step]
        if open_side:
            level = levels[pixel]
            if first[level] < 0:
                first[level] = pixel
            else:
                after[last[level]] = pixel
            last[level] = pixel
    level = 0
    while level < LEVELS:
        pixel = first[level]
        if pixel < 0:
            level += 1
            continue
        first[level] = after[pixel]
        for step in steps:
            there = pixel + step
            if free[there]:
                free[there] = False
                labels[there] = labels[pixel]
                its = levels[there]
                if first[its] < 0:
                    first[its] = there
                else:
                    after[last[its]] = there
                last[its] = there
                level = min(level, its)


def _compiled(cache: bool):
    return numba.njit(nogil=True, cache=cache)(_walk)


try:
    walk = _compiled(cache=True)
except RuntimeError:  # there is no folder that a cache could be written to: compile in each process
    walk = _compiled(cache=False)
