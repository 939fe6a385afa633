"""The flood, by hand, against scikit-image's, and compiled against not compiled."""

import cv2
import numpy as np
import pytest
from nuclei_made import made_nuclei, recovery
from skimage.segmentation import watershed

from tissueseg.instances import watershed as floods
from tissueseg.instances.boundary import instance_boundary
from tissueseg.instances.components import components
from tissueseg.instances.watershed import LEVELS, flood, levels_of


@pytest.fixture(params=["with numba", "without"])
def either(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr(floods, "_walk", lambda: None)
    else:
        pytest.importorskip("numba")
    return flood


def test_a_flood_meets_on_the_ridge(either):
    energy = np.array([[0.0, 0.2, 0.9, 0.3, 0.1]])
    markers = np.array([[4, 0, 0, 0, 7]], np.int32)
    found = either(levels_of(energy, 0, 1), markers, np.ones((1, 5), bool))
    assert found.tolist() in ([[4, 4, 4, 7, 7]], [[4, 4, 7, 7, 7]])
    assert found.dtype == np.int32


def test_a_plateau_is_shared_by_distance(either):
    markers = np.zeros((1, 9), np.int32)
    markers[0, 0], markers[0, 8] = 1, 2
    found = either(np.zeros((1, 9), np.uint16), markers, np.ones((1, 9), bool))
    assert found[0, :4].tolist() == [1] * 4
    assert found[0, 5:].tolist() == [2] * 4


def test_no_flood_leaves_the_mask_or_passes_corners(either):
    mask = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]], bool)
    markers = np.array([[0, 5, 3], [0, 0, 0], [0, 0, 0]], np.int32)  # 3 lies outside the mask
    found = either(np.zeros((3, 3), np.uint16), markers, mask)
    assert found.tolist() == [[5, 5, 0], [0, 0, 0], [0, 0, 0]]


def test_a_flood_behind_a_wall_comes_back_down(either):
    energy = np.array([[0.0, 0.5, 0.0, 0.0, 0.6, 0.1]])
    markers = np.array([[1, 0, 0, 0, 0, 2]], np.int32)
    found = either(levels_of(energy, 0, 1), markers, np.ones((1, 6), bool))
    assert found[0, :4].tolist() == [1, 1, 1, 1]


def test_no_markers_or_no_mask(either):
    nothing = np.zeros((3, 4), np.int32)
    assert not either(np.zeros((3, 4), np.uint16), nothing, np.ones((3, 4), bool)).any()
    assert not either(np.zeros((3, 4), np.uint16), nothing + 1, np.zeros((3, 4), bool)).any()


def test_levels_keep_to_their_range():
    assert levels_of(np.array([-9.0, -1.0, 0.0, 9.0]), -1, 0).tolist() == [0, 0, *[LEVELS - 1] * 2]


@pytest.fixture(scope="module")
def nuclei():
    """A noisy energy over nuclei that touch, low in their middles, with a marker in each."""
    labels = made_nuclei(400, 0.25, "packed")
    inner = (labels > 0) & ~instance_boundary(labels)
    depth = cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 5)
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, labels.shape), (0, 0), 2)
    energy = np.clip(-depth / 12 + 0.3 * noise, -1, 0)
    return energy, components(depth > 4), labels > 0


def test_equals_scikit_image(either, nuclei):
    energy, markers, mask = nuclei
    expected = watershed(energy, markers=markers, mask=mask)
    found = either(levels_of(energy, -1, 0), markers, mask)
    assert recovery(expected, found).pq >= 0.99


def test_the_compiled_flood_is_scikit_images_but_for_ties(nuclei):
    pytest.importorskip("numba")
    energy, markers, mask = nuclei
    expected = watershed(energy, markers=markers, mask=mask)
    assert (flood(levels_of(energy, -1, 0), markers, mask) != expected).mean() < 0.002


def test_the_same_flood_twice_is_the_same(either, nuclei):
    energy, markers, mask = nuclei
    levels = levels_of(energy, -1, 0)
    np.testing.assert_array_equal(either(levels, markers, mask), either(levels, markers, mask))
