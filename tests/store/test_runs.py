"""Pieces of equal labels, against labelling every instance on its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tissueseg.inspection.runs import pieces_of, runs_of

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def pieces(instances: np.ndarray, classes: np.ndarray | None = None) -> list[tuple[int, ...]]:
    classes = np.zeros(instances.shape, np.uint8) if classes is None else classes
    found = pieces_of(runs_of(instances, classes, ignore=255), instances.shape[1])
    return sorted(tuple(int(v) for v in row) for row in zip(*found, strict=True))


def expected(instances: np.ndarray) -> list[tuple[int, ...]]:
    rows = []
    for label in np.unique(instances[instances > 0]):
        parts, _ = ndimage.label(instances == label, np.ones((3, 3)))
        for i, (y, x) in enumerate(ndimage.find_objects(parts), 1):
            rows.append((label, (parts == i).sum(), y.start, x.start, y.stop, x.stop))
    return sorted(tuple(int(v) for v in row) for row in rows)


@given(SHAPES.flatmap(lambda s: arrays(np.int32, s, elements=st.integers(0, 3))), st.randoms())
def test_pieces_are_the_connected_parts_of_every_label(instances: np.ndarray, random) -> None:
    """Whatever the classes, which cut runs but not pieces."""
    classes = np.array([random.choice((1, 2, 255)) for _ in range(instances.size)], np.uint8)
    classes = np.where(instances > 0, classes.reshape(instances.shape), 0).astype(np.uint8)
    assert pieces(instances, classes) == expected(instances)


def test_highest_ids_and_rows_that_follow_each_other_are_kept_apart() -> None:
    instances = np.array([[0, 0, 2**31 - 1], [2**31 - 1, 0, 0]], np.int32)
    assert [row[:2] for row in pieces(instances)] == [(2**31 - 1, 1), (2**31 - 1, 1)]


def test_stray_pixels_have_a_known_class_and_no_instance() -> None:
    instances = np.array([[0, 0, 0, 0, 7]], np.int32)
    classes = np.array([[1, 2, 255, 0, 1]], np.uint8)
    assert runs_of(instances, classes, ignore=255).stray_px == 2
