import numpy as np
import pytest
from nuclei_made import DENSITIES, made_nuclei, noisy_maps, recovery

from tissueseg.instances.boundary import instance_boundary
from tissueseg.instances.boundary_decoder import BoundaryDecoder
from tissueseg.instances.maps import Maps


def rims_of(labels):
    rim = instance_boundary(labels).astype(np.float32)
    return Maps((labels > 0).astype(np.float32), boundary=rim)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_perfect_rims_give_the_nuclei_back(density, mpp):
    labels = made_nuclei(300, mpp, density, seed=5)
    found = recovery(labels, BoundaryDecoder()(rims_of(labels), mpp))
    assert found.share >= 0.99
    assert found.pq >= (0.93 if mpp == 1 else 0.98)


def test_noisy_rims_with_gaps_still_part_nuclei():
    labels = made_nuclei(300, 0.25, "packed")
    foreground, (rim,) = noisy_maps(labels, instance_boundary(labels)[None].astype(np.float32))
    assert recovery(labels, BoundaryDecoder()(Maps(foreground, boundary=rim), 0.25)).share >= 0.97


def test_a_nucleus_that_is_rim_throughout_is_an_instance():
    labels = np.zeros((12, 12), np.int32)
    labels[2:4, 2:4], labels[6:11, 6:11] = 1, 2
    np.testing.assert_array_equal(BoundaryDecoder()(rims_of(labels), 1.0), labels)
