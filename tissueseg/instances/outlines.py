"""Polygons of cells along the edges of their pixels, all cells at once.

Every side of a pixel where its cell ends is an edge with a direction, the cell on its right as one looks
at the picture. At its end the next edge is known from two pixels, so that the edges of all cells are
one permutation, whose cycles are the rings. Pointer doubling finds cycles and places in them in as many
steps as the longest ring has binary digits.

Where two pixels of a cell touch at a corner only, the ring turns around its own pixel: pieces that are
not connected through sides are polygons of their own. Where that makes a ring meet itself (a cell that
closes at a corner around a hole, or two holes that touch) it is split, so that rings are simple. Rings
may touch at points, as valid polygons may.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import Outlines
from tissueseg.instances.cycles import Cycles, cycles, members
from tissueseg.instances.pixels import number
from tissueseg.instances.rims import Rims, rims

_RIGHT, _DOWN, _LEFT, _UP = range(4)
_END = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
"""Where edges of each direction end, x and y, from the outer corner of their pixel."""


class _Edges(NamedTuple):
    """Sides of pixels where a cell ends: the top runs right, the right side down, and so on.

    Right sides come first, from left to right: so the lowest index in a ring is one of its leftmost.
    """

    way: np.ndarray  # (n,) int64 direction
    pixel: np.ndarray  # (n,) int64 flat index of the pixel, in the image of the rims
    index: (
        np.ndarray
    )  # (4, pixels of the image) int32: edge of a direction and pixel; else undefined


class _Rings(NamedTuple):
    """What is known of rings, (n,) each, in the order of their lowest edge."""

    first: np.ndarray  # lowest edge
    cell: np.ndarray  # from 0
    area: np.ndarray  # px, negative for holes
    piece: np.ndarray  # ring that is the exterior one of its piece


def outlines(labels: np.ndarray, ids: np.ndarray, box: Box) -> Outlines:
    """Outline cells.

    Exterior rings have a positive area by the shoelace formula in the coordinates as they stand and
    holes a negative one: counter-clockwise and clockwise with y upwards, as RFC 7946 (GeoJSON) wants;
    on a picture, with y downwards, the turn looks reversed. Points are the corners alone. Of a cell's
    pieces (connected through sides) the largest comes first; holes follow their own piece.

    Args:
        labels: (H, W) ids of cells, 0 background; what lies beyond the window counts as background.
        ids: cells to outline.
        box: where the window lies in the tissue.

    Returns:
        Outlines of the cells in order of their ids.

    Raises:
        TissueDataError: an id that the window does not show.
    """
    return trace(rims(number(labels, ids)), box)


def trace(found: Rims, box: Box) -> Outlines:
    """Outline the cells of rims, as `outlines` does."""
    edges = _edges(found)
    following, loops = _split(*_following(found, edges))
    rings = _rings(found, edges, loops)
    hole = rings.area < 0
    order = np.lexsort((hole, rings.piece, -rings.area[rings.piece], rings.cell))
    turning = edges.way[following] != edges.way
    corner, length = members(loops, order, turning)
    row, column = np.divmod(edges.pixel[corner], found.width)
    ends = np.stack([column, row], axis=1) + _END[edges.way[corner]]
    starts = _starts(length)
    points = _closed(ends + np.array([box.x - 1, box.y - 1]), starts).astype(np.float32)
    of_cell = np.bincount(rings.cell, minlength=found.count)
    return Outlines(points, starts + np.arange(len(starts)), _starts(of_cell), hole[order])


def _edges(found: Rims) -> _Edges:
    index = np.empty((4, len(found.flat)), np.int32)
    sides, ways, begun = [], [], 0
    for way in (_DOWN, _LEFT, _UP, _RIGHT):
        beyond = found.flat[found.pixel + found.steps[way - 1]]
        side = found.pixel[beyond != found.number]
        if way == _DOWN:
            side = side[np.argsort(side % found.width, kind="stable")]
        index[way, side] = np.arange(begun, begun + len(side))
        begun += len(side)
        sides.append(side)
        ways.append(np.full(len(side), way))
    return _Edges(np.concatenate(ways), np.concatenate(sides), index)


def _following(found: Rims, edges: _Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The next edge of every edge.

    Returns:
        (n,) the next edges; and of those that end where two pixels of a cell meet at a corner alone,
        (k,) themselves and (k,) the other edge that ends there.
    """
    n, steps = len(found.flat), np.array(found.steps)
    way, pixel = edges.way, edges.pixel
    ahead = pixel + steps.take(way)
    aside = ahead + steps.take(way - 1, mode="wrap")
    own = found.flat.take(pixel)
    goes_on, blocked = found.flat.take(ahead) == own, found.flat.take(aside) == own
    # Round the own pixel, along the next one, or round the one across, in flat indices of edges.index.
    turn = np.where(goes_on, np.where(blocked, way - 1, way), way + 1) & 3
    to = np.where(goes_on, np.where(blocked, aside, ahead), pixel) + turn * n
    met = np.flatnonzero(~goes_on & blocked)
    other = edges.index[(way[met] + 2) % 4, aside[met]]
    return edges.index.reshape(-1).take(to), met, other


def _split(following: np.ndarray, met: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, Cycles]:
    """Cross over where a ring meets itself.

    All such places at once: a ring meets itself on one side only, that of the background, so that
    meetings never interleave, and each crossing makes one ring two.
    """
    loops = cycles(following)
    crossed = loops.cycle[met] == loops.cycle[other]
    if not crossed.any():
        return following, loops
    split = following.copy()
    split[met[crossed]] = following[other[crossed]]
    return split, cycles(split)


def _rings(found: Rims, edges: _Edges, loops: Cycles) -> _Rings:
    first, of_edge = loops.lowest, loops.cycle
    # Shoelace over sides: those that run down add their x, those that run up take it off.
    x = edges.pixel % found.width + 1
    height = np.where(edges.way == _DOWN, x, np.where(edges.way == _UP, 1 - x, 0))
    area = np.bincount(of_edge, weights=height, minlength=len(first))
    cell = found.cell[np.searchsorted(found.pixel, edges.pixel[first])]
    return _Rings(first, cell, area, _pieces(edges, of_edge, first, area < 0))


def _pieces(edges: _Edges, of_edge: np.ndarray, first: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Exterior ring of each ring's piece.

    From a hole's leftmost edge one walks left, within the piece, to where it ends: at its exterior ring
    or at a hole that reaches further left, from which one goes on.
    """
    inside = np.flatnonzero(hole)
    up = np.flatnonzero(edges.way == _UP)  # left sides of pixels, in reading order
    met = np.searchsorted(edges.pixel[up], edges.pixel[first[inside]], side="right") - 1
    piece = np.arange(len(first))
    piece[inside] = of_edge[up[met]]
    while hole[piece].any():
        piece = piece[piece]
    return piece


def _closed(points: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rings of points with the first point of each repeated at its end."""
    return np.insert(points, starts[1:], points[starts[:-1]], axis=0)


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])
