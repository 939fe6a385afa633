"""Outlines of cells: by hand, and against areas and pixels of random images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Box
from tissueseg.instances.outlines import outlines

IMAGES = arrays.arrays(
    np.int64,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 1, 2, 2**40]),
)


def outlined(labels, y=0, x=0):
    labels = np.asarray(labels)
    ids = np.unique(labels[labels > 0])
    return outlines(labels, ids, Box(y, x, *labels.shape))


def rings_of(found, cell):
    """(points without the last one, whether a hole) of each ring."""
    for ring in range(found.cells[cell], found.cells[cell + 1]):
        points = found.points[found.rings[ring] : found.rings[ring + 1]]
        assert points[0].tolist() == points[-1].tolist()
        yield points[:-1].astype(float), bool(found.holes[ring])


def area(points):
    x, y = points.T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def inside(points, shape):
    """Pixels whose centre lies in a ring, by the even-odd rule on vertical sides."""
    rows, columns = np.indices(shape) + 0.5
    within = np.zeros(shape, bool)
    for (x, y), (x_next, y_next) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if x == x_next:
            within ^= (rows > min(y, y_next)) & (rows < max(y, y_next)) & (columns > x)
    return within


def pieces(mask):
    """Pixels connected through sides, by growing from one after another."""
    left, found = set(map(tuple, np.argwhere(mask))), []
    while left:
        front = [left.pop()]
        piece = set(front)
        while front:
            y, x = front.pop()
            beside = {(y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)} & left
            left -= beside
            piece |= beside
            front += beside
        found.append(frozenset(piece))
    return set(found)


def test_a_single_pixel_by_hand():
    found = outlined([[0, 0], [0, 5]], y=10, x=20)
    ((points, hole),) = rings_of(found, 0)
    assert not hole
    assert {tuple(p) for p in points} == {(21, 11), (22, 11), (22, 12), (21, 12)}
    assert area(points) == 1  # counter-clockwise with y upwards
    assert found.points.dtype == np.float32
    assert (found.rings.tolist(), found.cells.tolist()) == ([0, 5], [0, 1])


def test_points_on_a_straight_side_are_left_out():
    ((points, _),) = rings_of(outlined(np.ones((40, 30), int)), 0)
    assert len(points) == 4
    assert area(points) == 1200


def test_a_cell_in_the_hole_of_another():
    labels = np.ones((5, 5), int)
    labels[1:4, 1:4] = 0
    labels[2, 2] = 7
    found = outlined(labels)
    (outer, first), (hole, second) = rings_of(found, 0)
    assert (first, second) == (False, True)
    assert (area(outer), area(hole)) == (25, -9)
    ((island, _),) = rings_of(found, 1)
    assert area(island) == 1


def test_pixels_that_meet_at_a_corner_are_polygons_of_their_own():
    rings = list(rings_of(outlined(np.eye(3, dtype=int)), 0))
    assert [(area(points), hole) for points, hole in rings] == [(1, False)] * 3


def test_a_cell_that_closes_at_a_corner_has_a_hole_there():
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    (outer, first), (hole, second) = rings_of(outlined(labels), 0)
    assert (first, second) == (False, True)
    assert (area(outer), area(hole)) == (8, -1)


def test_holes_that_meet_at_a_corner_are_two():
    labels = np.ones((4, 4), int)
    labels[1, 1] = labels[2, 2] = 0
    rings = [(area(points), hole) for points, hole in rings_of(outlined(labels), 0)]
    assert rings == [(16, False), (-1, True), (-1, True)]


def test_holes_follow_their_own_piece():
    ring = np.pad(np.zeros((1, 1), int), 1, constant_values=3)
    nested = np.pad(ring, 2, constant_values=0)
    labels = np.pad(nested, 1, constant_values=3)
    labels = np.hstack([labels, np.zeros((9, 1), int), np.vstack([ring, ring * 0, ring])])
    sizes = [(area(points), hole) for points, hole in rings_of(outlined(labels), 0)]
    assert sizes == [
        *[(81, False), (-49, True), (9, False), (-1, True)],
        *[(9, False), (-1, True), (9, False), (-1, True)],
    ]


def test_touching_cells_share_their_border():
    found = outlined([[1, 1, 2, 2]])
    (left, _), (right, _) = (next(rings_of(found, i)) for i in range(2))
    assert {tuple(p) for p in left} & {tuple(p) for p in right} == {(2, 0), (2, 1)}


@settings(max_examples=150, deadline=None)
@given(IMAGES)
def test_rings_hold_just_the_pixels_of_their_cell(labels):
    found = outlined(labels)
    for cell, id in enumerate(np.unique(labels[labels > 0])):
        rings = list(rings_of(found, cell))
        assert not rings[0][1]
        polygons = []
        for points, hole in rings:
            shown = inside(points, labels.shape)
            if hole:
                assert (polygons[-1] & shown).sum() == shown.sum() == -area(points)
                polygons[-1] &= ~shown
            else:
                assert shown.sum() == area(points)
                polygons.append(shown)
        drawn = {frozenset(map(tuple, np.argwhere(polygon))) for polygon in polygons}
        assert drawn == pieces(labels == id)
        assert len(drawn) == len(polygons)


@settings(max_examples=150, deadline=None)
@given(IMAGES)
def test_rings_never_meet_themselves_and_turn_at_every_point(labels):
    found = outlined(labels)
    for cell in range(len(found.cells) - 1):
        for points, _ in rings_of(found, cell):
            corners = [*points.tolist(), *points.tolist()[:1]]
            steps = np.diff(corners, axis=0)
            assert ((steps != 0).sum(axis=1) == 1).all()
            assert ((steps != 0) != (np.roll(steps, 1, axis=0) != 0)).all()
            walked = [
                (x, y)
                for (x0, y0), (dx, dy) in zip(corners[:-1], steps, strict=True)
                for x, y in [
                    (x0 + np.sign(dx) * i, y0 + np.sign(dy) * i) for i in range(int(abs(dx + dy)))
                ]
            ]
            assert len(set(walked)) == len(walked)


def test_thousands_of_cells_at_once_have_their_areas():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.permutation(3600).reshape(60, 60) * 1000, np.ones((6, 6), int))
    labels[rng.random(labels.shape) < 0.1] = 0
    ids, pixels = np.unique(labels[labels > 0], return_counts=True)
    found = outlines(labels, ids[::-1], Box(0, 0, 360, 360))
    areas = [sum(area(points) for points, _ in rings_of(found, i)) for i in range(len(ids))]
    assert areas == pixels.tolist()


def test_only_the_cells_asked_for_are_outlined():
    labels = np.array([[1, 2, 3]])
    found = outlines(labels, np.array([2]), Box(0, 0, 1, 3))
    ((points, _),) = rings_of(found, 0)
    assert sorted(set(points[:, 0])) == [1, 2]


def test_no_cells_have_no_rings():
    found = outlines(np.zeros((3, 3), int), np.array([], int), Box(0, 0, 3, 3))
    assert found.points.shape == (0, 2)
    assert found.rings.tolist() == found.cells.tolist() == [0]
    assert len(found.holes) == 0


def test_ids_without_a_pixel_are_refused():
    with pytest.raises(TissueDataError, match="1 cells to measure, the first with id 4, have no"):
        outlines(np.array([[1, 2]]), np.array([4, 1]), Box(0, 0, 1, 2))
