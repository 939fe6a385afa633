"""Marker-controlled watershed: markers grow into a mask, through what is low first.

Beucher and Meyer's flooding (1993), in the order of `skimage.segmentation.watershed`: a pixel belongs to
the first marker that reaches it, and among pixels of one level those that were reached first go on
first. Energies are whole levels, so that a queue a level replaces a sorted heap. With numba (extra
`fast`) the queues are walked pixel by pixel; without it whole fronts advance at once on coarser levels.
"""

import functools
import importlib.util
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LEVELS = 4096
"""Of an energy: two that differ by less than 1/4096 of the range are told apart by who came first."""

_FRONT_LEVELS = 256  # of the flood without numba, whose time is the number of fronts


def levels_of(energy: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint16]:
    """An energy in steps of its range; what lies beyond counts as its end.

    Args:
        energy: (H, W), finite.
        low: what becomes level 0. Fixed, not the least of the image: windows must agree.
        high: what becomes LEVELS − 1.
    """
    step = (LEVELS - 1) / (high - low)
    return np.clip((energy - low) * step + 0.5, 0, LEVELS - 1).astype(np.uint16)


def flood(
    levels: NDArray[np.uint16], markers: NDArray[np.int32], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Grow markers until they fill what they reach of a mask; neighbours share an edge.

    Args:
        levels: (H, W) energies from 0 to LEVELS − 1 (`levels_of`), the lowest flooded first.
        markers: (H, W) ids > 0 where the flood starts; those outside the mask count for nothing.
        mask: (H, W) where it may go.

    Returns:
        (H, W) int32; 0 outside the mask, and in its components that hold no marker.
    """
    width = levels.shape[1] + 2  # a frame of one pixel outside the mask, so that no step leaves it
    inside = np.pad(mask, 1).reshape(-1)
    labels = np.pad(np.where(mask, markers, 0).astype(np.int32), 1).reshape(-1)
    walk = _walk() or flood_in_fronts
    walk(np.pad(levels, 1).reshape(-1), labels, inside & (labels == 0), width)
    return labels.reshape(-1, width)[1:-1, 1:-1].copy()


@functools.cache
def _walk() -> Callable[..., None] | None:
    """The compiled flood, where numba is installed; it is imported with the first flood only."""
    if importlib.util.find_spec("numba") is None:
        return None
    from tissueseg.instances.watershed_numba import walk

    return walk


def flood_in_fronts(
    levels: NDArray[np.uint16], labels: NDArray[np.int32], free: NDArray[np.bool_], width: int
) -> None:
    """Flood flat images, a level at a time, all pixels that go on from there at once; in place.

    Args:
        levels: (n,) energies.
        labels: (n,) ids, 0 where none is yet.
        free: (n,) what may still be reached; the image's frame is not.
        width: pixels of a row.
    """
    coarse = (levels // (LEVELS // _FRONT_LEVELS)).astype(np.uint8)
    steps = (width, 1, -1, -width)  # from above first: a queue in reading order comes from there
    waiting = np.flatnonzero(labels)
    waiting = waiting[np.logical_or.reduce([free[waiting + step] for step in steps])]
    for level in range(_FRONT_LEVELS):
        due = coarse[waiting] <= level
        front, waiting = waiting[due], [waiting[~due]]
        while front.size:
            reached = _advance(front, labels, free, steps)
            due = coarse[reached] <= level
            front = reached[due]
            waiting.append(reached[~due])
        waiting = np.concatenate(waiting)
        if not waiting.size:
            return


def _advance(
    front: NDArray[np.intp],
    labels: NDArray[np.int32],
    free: NDArray[np.bool_],
    steps: tuple[int, ...],
) -> NDArray[np.intp]:
    """Label the free neighbours of a front, and tell which they were."""
    reached = []
    for step in steps:  # one direction at a time: so no pixel is reached twice
        there = front + step
        new = free[there]
        there = there[new]
        labels[there] = labels[front[new]]
        free[there] = False
        reached.append(there)
    return np.concatenate(reached)
