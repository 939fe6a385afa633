"""Shapes of cells, each against scikit-image on that cell alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.measure import perimeter, regionprops

from tissueseg.instances.pixels import cut, number
from tissueseg.instances.rims import rims
from tissueseg.instances.shape import contacts, extent, moments, perimeters

IMAGES = arrays.arrays(
    np.int32,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, 1, 2, 2, 9]),
)


def shaped(labels):
    numbered = number(labels, np.unique(labels[labels > 0]))
    runs = cut(numbered.image, numbered.row)
    box = extent(runs, labels.shape[1], len(numbered.ids))
    return box, moments(runs, box, labels.shape[1]), rims(numbered)


@settings(max_examples=100, deadline=None)
@given(IMAGES)
def test_equals_scikit_image_cell_by_cell(labels):
    box, found, edge = shaped(labels)
    alone = regionprops(labels)
    assert len(alone) == len(found.area)
    lengths = [perimeter(labels == one.label, neighborhood=4) for one in alone]
    np.testing.assert_allclose(perimeters(edge), lengths, rtol=0, atol=1e-9)
    for i, one in enumerate(alone):
        assert (box.top[i], box.left[i], box.bottom[i], box.right[i]) == one.bbox
        assert found.area[i] == one.area
        np.testing.assert_allclose((found.y[i] - 0.5, found.x[i] - 0.5), one.centroid, atol=1e-12)
        np.testing.assert_allclose(found.eccentricity[i], one.eccentricity, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(IMAGES)
def test_contact_is_the_share_of_pixel_edges_to_other_cells(labels):
    edge = shaped(labels)[2]
    around = np.pad(labels, 1)
    for i, id in enumerate(np.unique(labels[labels > 0])):
        beside = [
            around[y + dy, x + dx]
            for y, x in np.argwhere(around == id)
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        ]
        outside = [other for other in beside if other != id]
        assert contacts(edge)[i] == sum(other > 0 for other in outside) / len(outside)


def test_neighbours_that_are_not_measured_count_as_contact():
    labels = np.array([[3, 3, 8]])
    assert contacts(rims(number(labels, np.array([3])))).tolist() == [1 / 6]


def test_a_circle_and_a_line():
    y, x = np.mgrid[-20:21, -20:21]
    disc = (y**2 + x**2 <= 15**2).astype(int)
    assert shaped(disc)[1].eccentricity[0] == pytest.approx(0, abs=1e-6)
    assert shaped(np.ones((1, 9), int))[1].eccentricity[0] == 1
    assert shaped(np.ones((1, 1), int))[1].eccentricity[0] == 0


def test_a_cell_that_fills_a_large_window_loses_no_digits():
    _, found, edge = shaped(np.full((3000, 2000), 65535, np.uint16))
    assert (found.area[0], found.x[0], found.y[0]) == (6e6, 1000, 1500)
    assert found.eccentricity[0] == pytest.approx((1 - (2000**2 - 1) / (3000**2 - 1)) ** 0.5)
    assert perimeters(edge)[0] == 2 * (2999 + 1999)
