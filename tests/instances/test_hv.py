"""Horizontal and vertical maps, against a loop over nuclei and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from nuclei_made import made_nuclei

from tissueseg.instances.hv import encode_hv

IMAGES = arrays.arrays(
    st.sampled_from([np.int32, np.uint16, np.int64, np.uint8]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 3, 7, 90, 255]),
)


def one_by_one(labels):
    """The definition, a nucleus at a time."""
    maps = np.zeros((2, *labels.shape), np.float32)
    for label in set(labels[labels > 0].tolist()):
        rows, columns = np.nonzero(labels == label)
        for channel, place in enumerate((columns, rows)):
            offset = (place - int(place.mean() + 0.5)).astype(np.float64)
            for side in (offset < 0, offset > 0):
                if side.any():
                    offset[side] /= np.abs(offset[side]).max()
            maps[channel, rows, columns] = offset
    return maps


def test_one_nucleus_by_hand():
    labels = np.zeros((5, 6), np.int32)
    labels[1:4, 1:5] = 3  # columns 1 … 4: mean 2.5, centre 3; rows 1 … 3: centre 2
    h, v = encode_hv(labels)
    assert h[1:4, 1:5].tolist() == [[-1.0, -0.5, 0.0, 1.0]] * 3
    assert v[1:4, 1:5].tolist() == [[-1.0] * 4, [0.0] * 4, [1.0] * 4]
    assert np.abs(h).sum() == 3 * 2.5
    assert np.abs(v).sum() == 2 * 4


def test_touching_nuclei_jump_where_they_meet():
    labels = np.repeat([[4, 4, 4, 9, 9, 9]], 3, axis=0)
    h = encode_hv(labels)[0]
    assert h[0].tolist() == [-1, 0, 1, -1, 0, 1]


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_equals_a_loop_over_nuclei(labels):
    maps = encode_hv(labels)
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps, one_by_one(labels))


@pytest.mark.parametrize("rows", [31, 32, 33, 70])
def test_images_of_several_bands_equal_a_loop_too(rows):
    labels = made_nuclei(120, 1.0, "packed")[:rows]
    np.testing.assert_array_equal(encode_hv(labels), one_by_one(labels))


@pytest.mark.parametrize(
    ("dtype", "ids"), [(np.int32, [2**31 - 1, 5]), (np.uint16, [65535, 1]), (np.int64, [2**62, 3])]
)
def test_ids_may_be_large_and_have_gaps(dtype, ids):
    small = np.zeros((9, 9), np.int32)
    small[1:4, 2:7], small[4:8, 3:5] = 1, 2
    labels = np.array([0, *ids], dtype)[small]
    np.testing.assert_array_equal(encode_hv(labels), encode_hv(small))


@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (0, 3)])
def test_without_nuclei_everything_is_0(shape):
    maps = encode_hv(np.zeros(shape, np.int32))
    assert maps.shape == (2, *shape)
    assert not maps.any()


def test_one_pixel_is_its_own_centre():
    labels = np.zeros((3, 3), np.uint16)
    labels[1, 2] = 8
    assert not encode_hv(labels).any()


def test_nuclei_one_pixel_wide_have_one_direction():
    labels = np.zeros((5, 5), np.int32)
    labels[:, 2] = 1
    h, v = encode_hv(labels)
    assert not h.any()
    assert v[:, 2].tolist() == [-1, -0.5, 0, 0.5, 1]


def test_pieces_of_one_id_are_one_nucleus():
    labels = np.array([[6, 0, 0, 0, 6]])
    assert encode_hv(labels)[0].tolist() == [[-1, 0, 0, 0, 1]]


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_a_flip_changes_the_sign_but_for_centres_between_pixels(labels):
    flipped = -encode_hv(labels[:, ::-1])[0, :, ::-1]
    kept = encode_hv(labels)[0]
    for label in set(labels[labels > 0].tolist()):
        nucleus = labels == label
        if np.nonzero(nucleus)[1].mean() % 1 != 0.5:
            np.testing.assert_array_equal(flipped[nucleus], kept[nucleus])


@settings(max_examples=100, deadline=None)
@given(IMAGES)
def test_a_transposition_swaps_the_maps(labels):
    np.testing.assert_array_equal(encode_hv(labels.T), encode_hv(labels)[::-1].swapaxes(1, 2))
