"""Rings around nuclei, against distances to every nucleus."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tissueseg.instances.rings import rings

SPARSE = arrays.arrays(
    np.int32,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([0] * 9 + [1, 2, 3]),
)


def one_by_one(image, radius_px):
    owner = np.zeros_like(image)
    nuclei = np.argwhere(image > 0)
    for place in np.argwhere(image == 0):
        squared = ((nuclei - place) ** 2).sum(axis=1)
        if len(nuclei) and squared.min() <= radius_px**2:
            owner[tuple(place)] = image[tuple(nuclei[squared.argmin()])]  # first in reading order
    return owner


@settings(max_examples=100, deadline=None)
@given(SPARSE, st.sampled_from([1.0, 2.0, 2.9, 4.0, 8.5, 40.0]))
def test_background_goes_to_the_nearest_nucleus(image, radius_px):
    np.testing.assert_array_equal(rings(image, radius_px), one_by_one(image, radius_px))


def test_the_ring_of_a_lone_pixel_is_a_disc_without_it():
    image = np.zeros((9, 9), np.int32)
    image[4, 4] = 1
    y, x = np.mgrid[-4:5, -4:5]
    disc = y**2 + x**2 <= 9
    assert (rings(image, 3.0) == disc & (image == 0)).all()


@pytest.mark.parametrize("highest", [5, 2**30])
def test_strips_of_rows_leave_no_seam(highest):
    rng = np.random.default_rng(0)
    image = np.where(rng.random((200, 17)) < 0.01, highest - rng.integers(0, 5, (200, 17)), 0)
    image = image.astype(np.int32)
    np.testing.assert_array_equal(rings(image, 7.0), one_by_one(image, 7.0))


def test_background_alone_has_no_rings():
    assert not rings(np.zeros((70, 3), np.int32), 5.0).any()
