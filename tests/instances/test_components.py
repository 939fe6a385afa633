import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nuclei_made import pieces_of

from tissueseg.instances.components import (
    components,
    filled,
    in_one_piece,
    in_reading_order,
    without_small,
)

LABELS = arrays(np.int32, (7, 9), elements=st.sampled_from([0, 0, 1, 2, 5, 9]))


@settings(deadline=None, max_examples=50)
@given(LABELS)
def test_ids_come_in_reading_order_without_gaps(labels):
    found = in_reading_order(labels)
    met = [label for label in found.reshape(-1).tolist() if label]
    assert list(dict.fromkeys(met)) == list(range(1, len(set(met)) + 1))
    assert (
        set(zip(labels.flat, found.flat, strict=True)) >= {(0, 0)} if (labels == 0).any() else True
    )
    assert len(set(zip(labels.flat, found.flat, strict=True))) == len(np.unique(labels))


def test_an_empty_image_has_no_instances():
    assert in_reading_order(np.zeros((0, 4), np.int32)).shape == (0, 4)
    assert components(np.zeros((0, 4), bool)).shape == (0, 4)


def test_more_instances_than_16_bits_hold():
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)[::-1, ::-1].copy()
    found = in_reading_order(labels)
    assert found[0, 0] == 1
    assert found.max() == 300 * 300 - 1


def test_corners_join_eight_neighbours_alone():
    mask = np.eye(3, dtype=bool)
    assert components(mask, 4).max() == 3
    assert components(mask, 8).max() == 1


@settings(deadline=None, max_examples=80)
@given(LABELS)
def test_pieces_of_one_instance_get_ids_of_their_own(labels):
    found, inside = in_one_piece(labels), labels > 0
    np.testing.assert_array_equal(found > 0, inside)
    pairs = set(zip(found[inside], pieces_of(labels)[inside], strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_small_ones_go_and_the_others_keep_their_ids():
    labels = np.array([[1, 2, 2, 7, 7, 7]], np.int32)
    assert without_small(labels, 3).tolist() == [[0, 0, 0, 7, 7, 7]]
    assert without_small(labels, 1).tolist() == labels.tolist()


def test_holes_are_filled_and_bays_are_not():
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 0]], bool)
    assert filled(mask).tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]]
