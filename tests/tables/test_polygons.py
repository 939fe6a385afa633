"""Turns, pieces and bounds of outlines, against a shoelace formula ring by ring."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from cells_made import SHAPES, outlines, polygons, square
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.tables.polygons import bounds, oriented, pieces


def area(ring: np.ndarray) -> float:
    """Positive where the ring is counterclockwise with y upwards."""
    return sum(float(x * next_y - next_x * y) / 2 for (x, y), (next_x, next_y) in pairwise(ring))


cell = st.builds(
    lambda shape, x, y: shape(x, y),
    st.sampled_from(SHAPES),
    st.integers(0, 10**5),
    st.integers(0, 10**5),
)


@given(st.lists(cell, max_size=6))
@settings(max_examples=30, deadline=None)
def test_exterior_rings_turn_left_and_holes_right(shapes: list) -> None:
    made = outlines(shapes)
    points = oriented(made)
    for i, hole in enumerate(made.holes):
        here = slice(made.rings[i], made.rings[i + 1])
        ring, before = points[here], made.points[here].astype(float)
        assert (area(ring) < 0) == hole
        assert (ring[0] == ring[-1]).all()
        assert np.array_equal(ring, before) or np.array_equal(ring, before[::-1])
    assert pieces(made).tolist() == [sum(not hole for _, hole in shape) for shape in shapes]


def test_small_rings_far_from_the_origin_keep_their_turn() -> None:
    made = outlines([[(square(2**23 - 1, 2**23 - 1, 1, backwards), False)] for backwards in (0, 1)])
    points = oriented(made)
    assert [area(points[:5]), area(points[5:])] == [1, 1]


def test_bounds_are_those_of_all_rings_of_a_cell() -> None:
    made = outlines([shape(3, 4) for shape in SHAPES])
    assert bounds(oriented(made), made).tolist() == [[3, 4, 4, 5], [3, 4, 8, 9], [3, 4, 12, 9]]


def test_no_cells_have_no_polygons() -> None:
    for made in (outlines([]), polygons(0, 8, np.random.default_rng(0))):
        assert oriented(made).shape == (0, 2)
        assert pieces(made).tolist() == []
        assert bounds(oriented(made), made).shape == (0, 4)
