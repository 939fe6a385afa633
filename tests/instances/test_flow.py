"""What following maps to the centres makes of noise, of offsets that are a little off, and of rims."""

import numpy as np
import pytest
from nuclei_made import made_nuclei, recovery

from tissueseg.instances import flow
from tissueseg.instances.hv import decode_hv, encode_hv


def rough(labels, noise=0.15):
    """The true foreground, with offsets that are noisy from pixel to pixel."""
    hv = encode_hv(labels)
    hv += np.random.default_rng(0).normal(0, noise, hv.shape).astype(np.float32)
    return (labels > 0).astype(np.float32), hv


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("density", ["sparse", "dense"])
def test_noise_cuts_no_nucleus_in_pieces(mpp, density):
    labels = made_nuclei(300, mpp, density, seed=5)
    found = recovery(labels, decode_hv(*rough(labels), mpp))
    assert found.share >= 0.97
    assert found.found <= found.truth


def test_no_step_leads_across_the_jump_between_two_nuclei():
    labels = np.zeros((13, 8), np.int32)
    labels[2:11, 2:4], labels[2:11, 4:6] = 1, 2  # centres in the columns on their right
    hv = encode_hv(labels)
    hv[0, labels > 0] -= (
        0.1  # centres seem to lie a tenth further right: for the left one, in the other
    )
    found = decode_hv((labels > 0).astype(np.float32), hv, 1.0, nucleus_um=4.0)
    np.testing.assert_array_equal(found, labels)


def test_fewer_of_the_smallest_nuclei_run_together_than_without_a_limit_to_steps():
    labels = made_nuclei(900, 2.0, "dense", seed=5)  # some three pixels across
    assert recovery(labels, decode_hv(*rough(labels), 2.0)).share >= 0.912  # 0.903 without


@pytest.mark.parametrize("sigma_px", [0.4, 1.0, 2.5])
def test_smoothing_draws_no_rim_towards_the_background(sigma_px):
    mask = made_nuclei(40, 0.25, "sparse") > 0
    hv = np.stack([np.full(mask.shape, -0.75), np.full(mask.shape, 0.5)]).astype(np.float32)
    hv[:, ~mask] = 9  # whatever a network says there
    h, v = flow._smooth(mask, hv, sigma_px)
    np.testing.assert_allclose(h[mask], -0.75, rtol=1e-4)
    np.testing.assert_allclose(v[mask], 0.5, rtol=1e-4)
