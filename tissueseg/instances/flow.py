"""Instances from horizontal and vertical maps by following them to the centres of nuclei.

A map says of each pixel where its centre lies. So each points to a neighbour, pointers are followed
by doubling (n rounds reach 2ⁿ steps), and pixels that end in one place are an instance. No scale of the
image is needed for that, nothing but a pixel's surroundings counts, and borders come out to the pixel,
which matters where nuclei are four pixels across. Where maps are noisy a nucleus has several ends:
what they cut is joined again wherever the maps do not break off along the whole border.
Following a field to its sinks is the idea of Cellpose (Stringer et al. 2021), whose field is another.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tissueseg.instances.components import components, without_small
from tissueseg.instances.neighbours import contacts, joined, merged_borders
from tissueseg.instances.scale import Scale

_STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # rows, columns

_BREAK = 0.6
"""How far maps may fall in a step towards the centre, on which they rise, before it leads into another
nucleus. Noise stays below, two nuclei that touch are 2 apart at the middle of their border."""

_OCTANT = np.float32(np.tan(np.pi / 8))
_Shift = NDArray[np.int32] | np.int32


class _Field(NamedTuple):
    """Flat images with a frame of background, so that no step leaves them."""

    inside: NDArray[np.bool_]  # (n,) foreground
    h: NDArray[np.float32]  # (n,)
    v: NDArray[np.float32]  # (n,)


def follow(mask: NDArray[np.bool_], hv: NDArray[np.float32], scale: Scale) -> NDArray[np.int32]:
    """Cut a foreground into nuclei.

    Args:
        mask: (H, W) foreground.
        hv: (2, H, W) offsets as `encode_hv` makes them, finite.
        scale: of the image.

    Returns:
        (H, W) int32, 0 outside the mask and in what is too small; ids in no order.
    """
    height, width = mask.shape
    h, v = (np.pad(one, 1).reshape(-1) for one in _smooth(mask, hv, scale.blur_px))
    field = _Field(np.pad(mask, 1).reshape(-1), h, v)
    pixels = np.flatnonzero(field.inside).astype(np.int32)
    ends = _ends(_pointers(field, pixels, width + 2), max(height, width))
    cut = np.zeros((height + 2, width + 2), np.int32)
    cut.reshape(-1)[pixels] = _gathered(pixels[ends], cut.shape)
    whole = _fragments_joined(cut, field, scale.min_area_px)
    return without_small(whole, scale.min_area_px)[1:-1, 1:-1]


def _smooth(
    mask: NDArray[np.bool_], hv: NDArray[np.float32], sigma_px: float
) -> NDArray[np.float32]:
    """Average over the foreground alone: background would draw rims towards 0."""
    hv = np.where(mask, hv, np.float32(0))
    if sigma_px == 0:
        return hv
    side = 2 * int(np.ceil(2 * sigma_px)) + 1
    weight = cv2.GaussianBlur(mask.astype(np.float32), (side, side), sigma_px) + 1e-6
    return np.stack([cv2.GaussianBlur(one, (side, side), sigma_px) / weight for one in hv])


def _pointers(field: _Field, pixels: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """The neighbour, as a position in `pixels`, that lies best towards each one's centre.

    The step nearest to its direction is tried first, and all others only where that is barred.
    """
    position = np.zeros(field.inside.size, np.int32)
    position[pixels] = np.arange(len(pixels), dtype=np.int32)
    h, v = field.h[pixels], field.v[pixels]
    across = np.where(np.abs(h) > _OCTANT * np.abs(v), -np.sign(h), 0).astype(np.int32)
    down = np.where(np.abs(v) > _OCTANT * np.abs(h), -np.sign(v), 0).astype(np.int32)
    there, barred = _step(field, pixels, down, across, width)
    target = position[there]
    lost = np.flatnonzero(barred)
    target[lost] = position[_second_best(field, pixels[lost], width)]
    return target


def _step(
    field: _Field, pixels: NDArray[np.int32], down: _Shift, across: _Shift, width: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Where a step leads, and whether that is background or another nucleus."""
    there = pixels + np.int32(width) * down + across
    fall = (field.h[pixels] - field.h[there]) * across + (field.v[pixels] - field.v[there]) * down
    return there, ~field.inside[there] | (fall >= _BREAK)


def _second_best(field: _Field, pixels: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """The step towards the centre that is open and turns aside least; else the pixel itself."""
    h, v, target = field.h[pixels], field.v[pixels], pixels.copy()
    best = np.zeros(len(pixels), np.float32)
    for down, across in _STEPS:
        towards = -(h * across + v * down) / np.float32(np.hypot(down, across))
        there, barred = _step(field, pixels, np.int32(down), np.int32(across), width)
        better = (towards > best) & ~barred
        best[better], target[better] = towards[better], there[better]
    return target


def _ends(target: NDArray[np.int32], furthest: int) -> NDArray[np.int32]:
    """Follow pointers for at least `furthest` steps. Where they turn in a circle any of it will do."""
    for _ in range(int(furthest).bit_length()):
        further = target[target]
        if np.array_equal(further, target):
            break
        target = further
    return target


def _gathered(ends: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """One id > 0 for ends that touch."""
    marks = np.zeros(shape, dtype=bool)
    marks.reshape(-1)[ends] = True
    return components(marks, connectivity=8).reshape(-1)[ends]


def _fragments_joined(cut: NDArray[np.int32], field: _Field, least_px: int) -> NDArray[np.int32]:
    """Join across borders where maps rise, as within a nucleus; then what is too small to be one."""
    sides, fall, count = _borders(cut, field)
    area = np.bincount(cut.reshape(-1))
    ids = joined(len(area), sides[fall < 0])
    sides, (fall, count) = merged_borders(ids[sides], fall, count)
    small = np.bincount(ids, area) < least_px
    return joined(len(small), _least_set_off(sides, fall / count, small))[ids][cut]


def _borders(
    cut: NDArray[np.int32], field: _Field
) -> tuple[NDArray[np.intp], np.ndarray, np.ndarray]:
    """Of each border: what it separates (n, 2), how far maps fall across it in all, its length."""
    found = contacts(cut)
    a, b = found.first, found.second
    fall = np.where(found.downward, field.v[a] - field.v[b], field.h[a] - field.h[b])
    n = len(found.sides)
    return found.sides, np.bincount(found.border, fall, n), np.bincount(found.border, minlength=n)


def _least_set_off(
    sides: NDArray[np.intp], fall: NDArray[np.float64], small: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """(n, 2): each small piece that has neighbours, and the one across whose border maps fall least."""
    both = np.concatenate([sides, sides[:, ::-1]])
    fall = np.tile(fall, 2)[small[both[:, 0]]]
    both = both[small[both[:, 0]]]
    both = both[np.lexsort((fall, both[:, 0]))]
    return both[np.diff(both[:, 0], prepend=-1) != 0]
