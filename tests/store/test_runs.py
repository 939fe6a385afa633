"""Runs of equal labels, against counting and labelling every instance on its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tissueseg.store.counting import InstanceCounts
from tissueseg.store.runs import ClassPixels, first_pixels, pieces_of, runs_of

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def pieces(instances: np.ndarray, classes: np.ndarray | None = None) -> list[tuple[int, ...]]:
    classes = np.zeros(instances.shape, np.uint8) if classes is None else classes
    found = pieces_of(runs_of(instances, classes))
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


LABELS = SHAPES.flatmap(lambda s: arrays(np.int32, s, elements=st.integers(0, 3)))
KINDS = (1, 2, 255)


def typed(instances: np.ndarray, random) -> np.ndarray:
    """A class for every pixel of an instance."""
    classes = np.array([random.choice(KINDS) for _ in range(instances.size)], np.uint8)
    return np.where(instances > 0, classes.reshape(instances.shape), 0).astype(np.uint8)


def majority_of(classes: np.ndarray) -> int:
    """Most pixels; of ties the lowest."""
    return min(KINDS, key=lambda kind: (-int((classes == kind).sum()), kind))


@given(LABELS, st.randoms(), st.integers(1, 8))
def test_pixels_are_counted_by_instance_and_class_in_any_windows(
    instances: np.ndarray, random, cut: int
) -> None:
    classes = typed(instances, random)
    parts = [
        ClassPixels.of(runs_of(instances[:, part], classes[:, part]))
        for part in (slice(None, cut), slice(cut, None))
    ]
    found = ClassPixels.joined(parts)
    wanted = {
        (label, kind): int(((instances == label) & (classes == kind)).sum())
        for label in (1, 2, 3)
        for kind in KINDS
    }
    got = zip(found.label.tolist(), found.kind.tolist(), found.pixels.tolist(), strict=True)
    assert [((label, kind), n) for label, kind, n in got] == [i for i in wanted.items() if i[1]]
    labels, kinds = found.majority()
    np.testing.assert_array_equal(labels, np.unique(instances[instances > 0]))
    assert kinds.tolist() == [majority_of(classes[instances == label]) for label in labels]
    several = [label for label in labels if len(np.unique(classes[instances == label])) > 1]
    assert found.mixed().tolist() == several


@given(LABELS, st.randoms(), st.integers(1, 8))
def test_instances_are_counted_once_whatever_the_windows(
    instances: np.ndarray, random, cut: int
) -> None:
    classes = typed(instances, random)
    counts = InstanceCounts()
    for part in (slice(None, cut), slice(cut, None)):
        counts.add(instances[part], classes[part])
    ids = np.unique(instances[instances > 0])
    kinds = [majority_of(classes[instances == label]) for label in ids]
    assert counts.per_class(3) == [0, kinds.count(1), kinds.count(2), kinds.count(255)]


def test_nothing_counted_is_nothing() -> None:
    assert InstanceCounts().per_class(2) == [0, 0, 0]


@given(SHAPES.flatmap(lambda s: arrays(np.uint16, s, elements=st.integers(0, 3))))
def test_first_pixels_are_the_first_in_reading_order(instances: np.ndarray) -> None:
    ids, places = first_pixels(instances)
    wanted, first = np.unique(instances.ravel(), return_index=True)
    np.testing.assert_array_equal(ids, wanted[wanted > 0])
    np.testing.assert_array_equal(places, first[wanted > 0])
