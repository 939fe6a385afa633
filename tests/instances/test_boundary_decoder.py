import cv2
import numpy as np
import pytest
from nuclei_made import DENSITIES, made_nuclei, noisy_maps, recovery

from tissueseg.instances.boundary import instance_boundary
from tissueseg.instances.boundary_decoder import BoundaryDecoder
from tissueseg.instances.components_decoder import ComponentsDecoder
from tissueseg.instances.maps import Maps


def rims_of(labels):
    rim = instance_boundary(labels).astype(np.float32)
    return Maps((labels > 0).astype(np.float32), boundary=rim)


def unsure_maps(labels, seed=0):
    """As a briefly trained network says: sure of rims beside background, hardly of those within."""
    mask = (labels > 0).astype(np.float32)
    outer = cv2.GaussianBlur(instance_boundary(labels > 0).astype(np.float32), (0, 0), 0.8) * 1.5
    inner = instance_boundary(labels) * np.float32(0.35)
    patches = np.random.default_rng(seed).normal(0, 1, labels.shape).astype(np.float32)
    texture = 0.3 + 0.35 * cv2.GaussianBlur(patches, (0, 0), 1.2)
    rim = np.clip(np.maximum(outer, texture) + inner, 0, 1) * mask
    return Maps(cv2.GaussianBlur(mask, (0, 0), 0.7), boundary=rim)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_perfect_rims_give_the_nuclei_back(density, mpp):
    labels = made_nuclei(300, mpp, density, seed=5)
    found = recovery(labels, BoundaryDecoder()(rims_of(labels), mpp))
    assert found.share >= 0.99
    assert found.pq >= (0.93 if mpp == 1 else 0.98)


@pytest.mark.parametrize("density", DENSITIES)
def test_noisy_rims_with_gaps_still_part_nuclei(density):
    labels = made_nuclei(300, 0.25, density)
    foreground, (rim,) = noisy_maps(labels, instance_boundary(labels)[None].astype(np.float32))
    found = recovery(labels, BoundaryDecoder()(Maps(foreground, boundary=rim), 0.25))
    assert found.share >= 0.99
    assert found.pq >= 0.98


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_rims_a_network_is_unsure_of_part_more_nuclei_than_the_foreground_alone(mpp):
    labels = made_nuclei(300, mpp, seed=3)
    maps = unsure_maps(labels)
    found = recovery(labels, BoundaryDecoder()(maps, mpp))
    assert found.pq >= recovery(labels, ComponentsDecoder()(maps, mpp)).pq + 0.03
    assert found.pq >= 0.9


def test_specks_of_rim_within_a_nucleus_do_not_cut_it():
    labels = np.zeros((40, 60), np.int32)
    rows, columns = np.mgrid[:40, :60]
    labels[((rows - 20) / 14) ** 2 + ((columns - 30) / 24) ** 2 < 1] = 1
    maps = rims_of(labels)
    maps.boundary[17:19, 22:24] = maps.boundary[10:12, 40] = 0.6
    np.testing.assert_array_equal(BoundaryDecoder()(maps, 0.25), labels)


def test_a_weak_rim_with_a_gap_parts_two_nuclei_where_they_touch():
    labels = np.zeros((30, 50), np.int32)
    labels[5:25, 5:25], labels[5:25, 25:45] = 1, 2
    maps = rims_of(labels)
    maps.boundary[6:24, 24:26] = 0.8
    maps.boundary[14:17, 24:26] = 0.1
    np.testing.assert_array_equal(BoundaryDecoder()(maps, 0.3), labels)
    maps.boundary[6:24, 24:26] = 0.1
    assert BoundaryDecoder()(maps, 0.3).max() == 1


def test_a_nucleus_that_is_rim_throughout_is_an_instance():
    labels = np.zeros((12, 12), np.int32)
    labels[2:4, 2:4], labels[6:11, 6:11] = 1, 2
    np.testing.assert_array_equal(BoundaryDecoder()(rims_of(labels), 1.0), labels)


@pytest.mark.parametrize("mpp", [0.5, 1.0])
def test_a_window_with_its_margin_says_what_the_whole_says(mpp):
    labels = made_nuclei(400, mpp, seed=11)
    maps, decoder = unsure_maps(labels), BoundaryDecoder()
    whole = decoder(maps, mpp)
    reach, side = decoder.reach_px(mpp), labels.shape[0] // 3
    seen, core = slice(side - reach, 2 * side + reach), slice(reach, reach + side)
    window = Maps(maps.foreground[seen, seen], boundary=maps.boundary[seen, seen])
    part = decoder(window, mpp)
    inside = np.setdiff1d(part[core, core], np.concatenate([part[[0, -1]], part[:, [0, -1]].T]))
    same = [len(np.unique(whole[seen, seen][part == one])) == 1 for one in inside]
    assert len(same) >= 30
    assert np.mean(same) >= 0.97


def test_rims_that_are_not_finite_spoil_nothing_around_them():
    labels = made_nuclei(60, 0.25, "sparse")
    maps = rims_of(labels)
    at = tuple(np.argwhere(labels == 0)[0])
    maps.boundary[at] = np.nan
    np.testing.assert_array_equal(
        BoundaryDecoder()(maps, 0.25), BoundaryDecoder()(rims_of(labels), 0.25)
    )
