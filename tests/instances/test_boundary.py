import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tissueseg.contracts import IGNORE
from tissueseg.instances.boundary import class_boundary, instance_boundary

label_images = arrays(np.int32, (9, 11), elements=st.integers(0, 3))


def picture(*rows):
    return np.array([[int(c) for c in row] for row in rows], dtype=np.int32)


def rim_by_definition(labels, width_px):
    """Distance to the nearest pixel with another label, all pairs."""
    rim = np.zeros(labels.shape, dtype=bool)
    rows, columns = np.indices(labels.shape)
    for (i, j), label in np.ndenumerate(labels):
        steps = abs(rows - i) + abs(columns - j)
        rim[i, j] = label > 0 and (steps[labels != label] <= width_px).any()
    return rim


def test_touching_nuclei_are_separated():
    labels = picture(
        "111222",
        "111222",
        "111000",
    )
    expected = picture(
        "001100",
        "001111",
        "001000",
    )
    np.testing.assert_array_equal(instance_boundary(labels), expected)


def test_a_nucleus_cut_by_the_tile_has_no_rim_there():
    assert not instance_boundary(np.full((5, 5), 7, dtype=np.int32)).any()
    assert not instance_boundary(np.zeros((5, 5), dtype=np.int32)).any()


@settings(deadline=None, max_examples=40)
@given(labels=label_images, width_px=st.integers(1, 4))
def test_width_counts_steps_to_another_label(labels, width_px):
    expected = rim_by_definition(labels, width_px)
    np.testing.assert_array_equal(instance_boundary(labels, width_px), expected)


@settings(deadline=None, max_examples=40)
@given(labels=label_images)
def test_without_rims_no_component_holds_two_instances(labels):
    inside = (labels > 0) & ~instance_boundary(labels)
    count, components = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
    for component in range(1, count):
        assert len(np.unique(labels[components == component])) == 1


@settings(deadline=None, max_examples=40)
@given(labels=label_images, turns=st.integers(0, 3), flip=st.booleans())
def test_edges_turn_with_the_image(labels, turns, flip):
    def view(image):
        return np.rot90(image[:, ::-1] if flip else image, turns)

    for edges in (instance_boundary, class_boundary):
        np.testing.assert_array_equal(edges(view(labels)), view(edges(labels)))


def test_large_labels_are_told_apart():
    labels = np.array([[2**30, 2**30 + 1]], dtype=np.int32)
    assert instance_boundary(labels).all()


def test_width_below_one():
    with pytest.raises(ValueError, match="width_px=0"):
        instance_boundary(np.zeros((2, 2), dtype=np.int32), 0)


def test_class_changes_are_thick_on_both_sides_and_blind_to_instances():
    classes = picture("0011", "0011")
    np.testing.assert_array_equal(class_boundary(classes), picture("0110", "0110"))


def test_unknown_classes_make_no_edges():
    classes = np.array([[1, IGNORE, 2, 2, 0]], dtype=np.uint8)
    assert class_boundary(classes).tolist() == [[False, False, False, True, True]]
