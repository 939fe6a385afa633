"""Targets of heads, from the labels and classes of a tile."""

import numpy as np
import pytest

from tissueseg.contracts import IGNORE
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.errors import ConfigError

# Two touching nuclei of one class, and a third alone.
LABELS = np.zeros((8, 12), np.int32)
LABELS[2:6, 1:5], LABELS[2:6, 5:9] = 1, 2
CLASSES = np.where(LABELS > 0, 3, 0).astype(np.uint8)


def test_instance_edges_part_touching_nuclei_and_class_edges_do_not():
    instances = BoundaryTarget()(LABELS, CLASSES)[0]
    classes = BoundaryTarget(edges_of="classes")(LABELS, CLASSES)[0]
    assert instances[3, 4] == instances[3, 5] == 1
    assert classes[3, 4] == classes[3, 5] == 0
    assert instances[1, 3] == 0  # background beside a nucleus
    assert classes[1, 3] == 1


def test_width_is_in_pixels_inside_the_nucleus():
    thin, thick = (BoundaryTarget(width_px=w)(LABELS, CLASSES)[0] for w in (1, 2))
    assert thin.sum() == 2 * (16 - 4)
    assert thick.sum() == 2 * 16


def test_only_heads_with_a_target_of_their_own_get_one():
    targets = Targets.for_heads(["classes", "boundary"], BoundaryTarget())(LABELS, CLASSES)
    assert list(targets) == ["boundary"]
    assert targets["boundary"].shape == (1, 8, 12)
    assert targets["boundary"].dtype == np.float32
    assert set(np.unique(targets["boundary"])) == {0, 1}
    assert Targets.for_heads(["classes"], BoundaryTarget())(LABELS, CLASSES) == {}


def test_ignored_pixels_have_no_known_class_edges_and_make_none():
    classes = np.full((4, 4), IGNORE, np.uint8)
    classes[:2] = 1
    edges = BoundaryTarget(edges_of="classes")(np.zeros((4, 4), np.int32), classes)[0]
    assert not edges[:2].any()
    assert np.isnan(edges[2:]).all()


@pytest.mark.parametrize("options", [{"edges_of": "nuclei"}, {"width_px": 0}])
def test_options_that_cannot_be_used(options):
    with pytest.raises(ConfigError, match="choose edges_of from instances, classes"):
        BoundaryTarget(**options)


def test_foreground_and_offsets_are_known_of_nuclei_and_background():
    labels = np.zeros((3, 6), np.int32)
    labels[:, 0:3], labels[:, 5] = 4, 9
    classes = np.array([[2, 2, 2, 0, IGNORE, IGNORE]] * 3, np.uint8)  # 9 has no type
    made = Targets.for_heads(["foreground", "hv"], BoundaryTarget())(labels, classes)
    foreground, hv = made["foreground"], made["hv"]
    assert (foreground.shape, hv.shape) == ((1, 3, 6), (2, 3, 6))
    assert foreground.dtype == hv.dtype == np.float32
    np.testing.assert_array_equal(foreground[0, 1], [1, 1, 1, 0, np.nan, 1])
    np.testing.assert_array_equal(hv[0, 1], [-1, 0, 1, 0, np.nan, 0])
    np.testing.assert_array_equal(hv[1, :, 5], [-1, 0, 1])


def test_coarse_heads_learn_from_the_target_of_their_base_head():
    heads = ["classes", "classes_stride4", "boundary_stride4", "boundary_stride2", "boundary"]
    targets = Targets.for_heads([*heads, "foreground_stride1"], BoundaryTarget())
    assert targets.heads == ("boundary", "foreground")
    made = targets(LABELS, CLASSES)
    assert list(made) == ["boundary", "foreground"]
    np.testing.assert_array_equal(made["foreground"][0], LABELS > 0)
