"""Instances from horizontal and vertical maps by following them to the centres of nuclei.

A map says of each pixel where its centre lies. So each points to a neighbour, pointers are followed
by doubling (n rounds reach 2ⁿ steps), and pixels that end in one place are an instance. Nothing but a
pixel's surroundings counts, and borders come out to the pixel, which matters where nuclei are four
pixels across. Networks in doubt where a nucleus ends draw maps that fall between two centres without a
change of sign, and one's pixels would follow into the other: the average around a pixel is taken off
first. That cuts too much rather than too little, and pieces are joined again, the least set off
first, wherever maps do not fall by much across a border for its length.
Following a field to its sinks is the idea of Cellpose (Stringer et al. 2021), whose field is another.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tissueseg.instances.components import in_one_piece
from tissueseg.instances.neighbours import contacts, joined, merged_borders
from tissueseg.instances.scale import Scale

_STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))  # rows, columns

_BREAK = 0.6
"""How far maps may fall in a step towards the centre, on which they rise, before it leads into another
nucleus. Noise stays below, two nuclei that touch are 2 apart at the middle of their border."""

_AVERAGING = np.float32(0.9)
"""The share of the average around a pixel that is taken off: with all of it, nothing would be left in
the middle of what is many times as large as a typical nucleus."""

_JUMP = 0.25
"""How far maps fall from a pixel to the next, averaged over it, at what is beyond doubt a border."""

_SET_OFF = 0.03
"""How far they must fall across others, read a little inwards, for the border's length in sides of the
lesser piece, √area. What cuts through a nucleus is two or more long, where nuclei touch about one."""

_ROUNDS = 12
"""Of joining: five do nearly always, and each lets a piece depend on what is further away."""
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
    maps = _centred(mask, _smooth(mask, hv, scale.blur_px), scale.average_px)
    h, v = (np.pad(one, 1).reshape(-1) for one in maps)
    field = _Field(np.pad(mask, 1).reshape(-1), h, v)
    pixels = np.flatnonzero(field.inside).astype(np.int32)
    ends = _ends(_pointers(field, pixels, width + 2), max(height, width))
    cut = np.zeros((height + 2, width + 2), np.int32)
    cut.reshape(-1)[pixels] = _gathered(field, pixels, ends, width + 2)
    return _fragments_joined(in_one_piece(cut), field, scale)[1:-1, 1:-1]


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


def _centred(mask: NDArray[np.bool_], hv: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
    """Without what they are on average over the foreground around each pixel; 0 outside it."""
    inside, side = mask.astype(np.float32), (min(side_px, 2 * max(mask.shape) + 1),) * 2
    share = _AVERAGING / (cv2.blur(inside, side, borderType=cv2.BORDER_CONSTANT) + np.float32(1e-6))
    share *= inside
    centred = hv * inside
    for one in centred:
        one -= share * cv2.blur(one, side, borderType=cv2.BORDER_CONSTANT)
    return centred


def _pointers(field: _Field, pixels: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """The neighbour, as a position in `pixels`, that lies best towards each one's centre.

    The step nearest to its direction is tried first, and all others only where that is barred.
    """
    position = np.zeros(field.inside.size, np.int32)
    position[pixels] = np.arange(len(pixels), dtype=np.int32)
    h, v = field.h.take(pixels), field.v.take(pixels)
    there, barred = _step(field, pixels, _against(v, h), _against(h, v), width)
    target = position.take(there)
    lost = np.flatnonzero(barred)
    target[lost] = position[_second_best(field, pixels[lost], width)]
    return _pairs_ended(target, np.square(h) + np.square(v))


def _against(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.int32]:
    """The step along an axis that leads to smaller offsets; 0 where the other axis is nearly all."""
    little = _OCTANT * np.abs(other)
    return (one < -little).astype(np.int32) - (one > little)


def _pairs_ended(target: NDArray[np.int32], offset: NDArray[np.float32]) -> NDArray[np.int32]:
    """Of two pixels that point at each other, across a centre, that of the lesser offset is an end.

    With both, the ends of two nuclei of a few pixels would touch.
    """
    pairs = np.flatnonzero(target.take(target) == np.arange(len(target), dtype=np.int32))
    ends = pairs[offset[pairs] <= offset[target[pairs]]]
    target[ends] = ends
    return target


def _step(
    field: _Field, pixels: NDArray[np.int32], down: _Shift, across: _Shift, width: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Where a step leads, and whether that is background or another nucleus."""
    there = pixels + np.int32(width) * down + across
    fall = (field.h.take(pixels) - field.h.take(there)) * np.float32(across)
    down_fall = (field.v.take(pixels) - field.v.take(there)) * np.float32(down)
    # What rises along one axis must not make up for what breaks off along the other.
    broken = np.maximum(fall, 0, out=fall) + np.maximum(down_fall, 0, out=down_fall) >= _BREAK
    return there, ~field.inside.take(there) | broken


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
        further = target.take(target)
        if np.array_equal(further, target):
            break
        target = further
    return target


def _gathered(
    field: _Field, pixels: NDArray[np.int32], ends: NDArray[np.int32], width: int
) -> NDArray[np.int32]:
    """One id > 0 for ends that touch without a break between them, as where maps are flat."""
    ids = np.zeros(len(pixels), np.int32)
    ids[ends] = 1
    marks = np.flatnonzero(ids)
    number, places = np.zeros(field.inside.size, np.int32), pixels[marks]
    number[places] = np.arange(1, len(marks) + 1)
    pairs = []
    for down, across in _STEPS[:4]:  # the others lead back
        there, barred = _step(field, places, np.int32(down), np.int32(across), width)
        near = (number[there] > 0) & ~barred
        pairs.append(np.stack([number[places[near]], number[there[near]]], axis=1))
    ids[marks] = joined(len(marks) + 1, np.concatenate(pairs))[1:]
    return ids.take(ends)


def _fragments_joined(cut: NDArray[np.int32], field: _Field, scale: Scale) -> NDArray[np.int32]:
    """Join what is little set off, in rounds; then what is too small, or drop it if it is alone."""
    area = np.bincount(cut.reshape(-1))
    sides, totals = _borders(cut, field, scale.inwards_px)
    ids = np.arange(len(area))
    for _ in range(_ROUNDS):
        pairs = _mutually_least(sides, totals, area)
        if not len(pairs):
            break
        new = joined(len(area), pairs)
        ids, area = new[ids], np.bincount(new, area)
        sides, totals = merged_borders(new[sides], *totals)
    length, _, fall = totals
    last = joined(len(area), _least_set_off(sides, fall / length, area < scale.min_area_px))
    dropped = np.bincount(last, area) < scale.min_area_px
    return np.where(dropped[last], 0, last)[ids].astype(np.int32)[cut]


def _borders(
    cut: NDArray[np.int32], field: _Field, inwards_px: int
) -> tuple[NDArray[np.intp], list[np.ndarray]]:
    """Of each border: what it separates (n, 2), and totals over its length.

    These are the length, how far maps fall from one pixel to the next across it, and how far from some
    pixels inwards on one side to as many on the other: networks are in doubt about the border itself.
    """
    found, flat = contacts(cut), cut.reshape(-1)
    a, b, step = found.first, found.second, np.where(found.downward, cut.shape[1], 1)
    # What rises at one end of a border must not make up for what breaks off at the other.
    jump = np.maximum(_fall(field, a, b, found.downward), 0)
    for _ in range(inwards_px):
        a = np.where(flat[a - step] == flat[a], a - step, a)
        b = np.where(flat[b + step] == flat[b], b + step, b)
    each = np.ones(len(a)), jump, _fall(field, a, b, found.downward)
    return found.sides, [np.bincount(found.border, one, len(found.sides)) for one in each]


def _fall(
    field: _Field, a: NDArray[np.intp], b: NDArray[np.intp], downward: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(n,) by how much maps are less in `b` than in `a`, which lies above or on the left of it."""
    return np.where(downward, field.v[a] - field.v[b], field.h[a] - field.h[b])


def _mutually_least(
    sides: NDArray[np.intp], totals: list[np.ndarray], area: NDArray[np.integer]
) -> NDArray[np.intp]:
    """(n, 2): pieces to be joined, of which neither is less set off from another neighbour.

    Joined all at once, two nuclei would become one by way of a piece that lies between them.
    """
    length, jump, fall = totals
    across = length / np.sqrt(area[sides].min(axis=1))
    excess = np.where(jump >= _JUMP * length, np.inf, fall / length - _SET_OFF * across)
    least = np.full(len(area), np.inf)
    np.minimum.at(least, sides.reshape(-1), np.repeat(excess, 2))
    return sides[(excess < 0) & (excess <= least[sides].min(axis=1))]


def _least_set_off(
    sides: NDArray[np.intp], fall: NDArray[np.float64], small: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """(n, 2): each small piece that has neighbours, and the one across whose border maps fall least."""
    both = np.concatenate([sides, sides[:, ::-1]])
    those = small[both[:, 0]]
    both, fall = both[those], np.tile(fall, 2)[those]
    both = both[np.lexsort((fall, both[:, 0]))]
    return both[np.diff(both[:, 0], prepend=-1) != 0]
