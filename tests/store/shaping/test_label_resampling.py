"""Label images at another scale: nothing broken, as little lost as can be, classes that fit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage
from sources import ellipses

from tissueseg.contracts import IGNORE
from tissueseg.store.shaping.resampling import resample_labels

EIGHT = np.ones((3, 3), int)
SLIVERS = ellipses(330, 290, 16, (0.5, 5.0))
TYPES = np.where(SLIVERS > 0, 1 + SLIVERS % 2, 0).astype(np.uint8)


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.4, 0.65, 0.8, 1.6, 2.0])
def test_a_thousand_nuclei_stay_whole_and_typed(factor: float) -> None:
    instances = ellipses(690, 730, 21, (0.5, 6.0))
    rng = np.random.default_rng(2)
    types = np.append(0, rng.choice([1, 2, IGNORE], instances.max()))
    shape = (round(690 * factor), round(730 * factor))
    made, kinds, kept, lost = resample_labels(instances, types[instances], shape)
    assert instances.max() > 1000
    assert lost.size == 0
    np.testing.assert_array_equal(np.unique(made), np.unique(instances))
    np.testing.assert_array_equal(kinds, types[made])
    assert [i for i in in_pieces(made) if i not in in_pieces(instances)] == []
    before, after = (np.bincount(plane.ravel())[1:] for plane in (instances, made))
    plain = np.setdiff1d(np.arange(len(before)), kept - 1)
    ratio = after[plain].sum() / before[plain].sum() / factor**2
    assert ratio == pytest.approx(1, abs=0.03)
    painted = 0.2 if factor < 0.4 else 0.05  # slivers cover whole pixels
    assert after.sum() / before.sum() / factor**2 == pytest.approx(1, abs=painted)


def in_pieces(instances: np.ndarray) -> list[int]:
    """Ids that are not 8-connected."""
    boxes = ndimage.find_objects(instances)
    return [
        i
        for i, box in enumerate(boxes, start=1)
        if box is not None and ndimage.label(instances[box] == i, EIGHT)[1] > 1
    ]


@pytest.mark.parametrize("draw", ["row", "column", "diagonal", "steep"])
@pytest.mark.parametrize("factor", [0.1, 0.25, 1 / 3, 0.45, 0.5, 0.7])
def test_a_line_one_pixel_wide_stays_a_line(draw: str, factor: float) -> None:
    ends = {"row": (5, 22, 95, 22), "column": (40, 3, 40, 90), "diagonal": (4, 4, 80, 80)}
    x0, y0, x1, y1 = (ends | {"steep": (10, 5, 30, 92)})[draw]
    line = cv2.line(np.zeros((100, 100), np.uint8), (x0, y0), (x1, y1), 1)
    shape = (round(100 * factor),) * 2
    made, kinds, _, lost = resample_labels(line, 2 * line, shape)
    assert lost.size == 0
    assert ndimage.label(made, EIGHT)[1] == 1
    for now, before in zip(np.nonzero(made), np.nonzero(line), strict=True):
        assert np.ptp(now) + 2 >= (np.ptp(before) + 1) * factor
    np.testing.assert_array_equal(kinds, 2 * made)


def test_single_pixels_stay_where_there_is_room() -> None:
    instances = np.zeros((40, 40), np.uint16)
    instances[::8, ::8] = np.arange(1, 26).reshape(5, 5)
    made, _, kept, lost = resample_labels(instances, instances > 0, (10, 10))
    np.testing.assert_array_equal(made[::2, ::2], np.arange(1, 26).reshape(5, 5))
    assert np.count_nonzero(made) == 25
    np.testing.assert_array_equal(kept, np.arange(1, 26))
    assert lost.size == 0
    assert made.dtype == np.uint16


def test_the_order_of_pixels_in_memory_does_not_matter() -> None:
    planes = SLIVERS, TYPES
    wanted = resample_labels(*planes, (80, 70))
    turned = resample_labels(*map(np.asfortranarray, planes), (80, 70))
    assert wanted[2].size > 0
    for plane, other in zip(turned, wanted, strict=True):
        np.testing.assert_array_equal(plane, other, strict=True)


def test_the_instance_that_covers_most_of_a_pixel_gets_it() -> None:
    instances = np.zeros((4, 4), int)
    instances[0] = [1, 2, 2, 2]
    made, _, kept, lost = resample_labels(instances, instances, (1, 1))
    assert (made.tolist(), kept.tolist(), lost.tolist()) == ([[2]], [2], [1])


def test_an_instance_without_room_takes_a_pixel_of_one_that_has_others() -> None:
    instances = np.ones((4, 4), np.int32)
    instances[0, 0] = 7
    made, kinds, kept, lost = resample_labels(instances, np.where(instances == 7, 2, 1), (2, 2))
    np.testing.assert_array_equal(made, [[7, 1], [1, 1]])
    np.testing.assert_array_equal(kinds, [[2, 1], [1, 1]])
    assert (kept.tolist(), lost.tolist()) == ([7], [])


def test_a_mixed_instance_takes_its_most_frequent_class() -> None:
    instances = np.repeat([[0, 5, 5, 5, 0, 8, 8, 0]], 8, axis=0)
    classes = np.where(instances > 0, 1, 0)
    classes[:5, 1:4] = 2
    classes[:, 5:7] = IGNORE
    classes[:, 7] = 2  # of no instance
    for shape in ((4, 4), (16, 16)):
        made, kinds, _, _ = resample_labels(instances, classes, shape)
        assert set(kinds[made == 5]) == {2}
        assert set(kinds[made == 8]) == {IGNORE}
        assert set(kinds[:, -1]) == {2}
        assert set(kinds[made == 0]) <= {0, 2}


def test_labels_twice_as_large_are_repeated() -> None:
    made, kinds, kept, lost = resample_labels(SLIVERS, TYPES, (2 * 330, 2 * 290))
    for plane, source in ((made, SLIVERS), (kinds, TYPES)):
        wanted = np.repeat(np.repeat(source, 2, axis=0), 2, axis=1)
        np.testing.assert_array_equal(plane, wanted, strict=True)
    assert kept.size == lost.size == 0
