"""From maps back to nuclei: at every scale and density, with noise, in windows, and on bad input."""

from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nuclei_made import DENSITIES, made_nuclei, noisy_maps, recovery
from published_recipe import literal_recipe

from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.instances.hv import PRESETS, decode_hv, encode_hv
from tissueseg.instances.scale import Scale


def perfect(labels):
    return (labels > 0).astype(np.float32), encode_hv(labels)


@pytest.fixture(scope="module", params=[0.25, 0.5, 1.0])
def mpp(request):
    return request.param


@pytest.fixture(scope="module", params=DENSITIES)
def nuclei(request, mpp):
    return made_nuclei(300, mpp, request.param, seed=5)


def test_perfect_maps_give_the_nuclei_back(nuclei, mpp):
    found = recovery(nuclei, decode_hv(*perfect(nuclei), mpp))
    assert found.share >= 0.99
    assert found.pq >= 0.97


def test_noise_and_blur_cost_little(nuclei, mpp):
    found = recovery(nuclei, decode_hv(*noisy_maps(nuclei, encode_hv(nuclei)), mpp))
    assert found.share >= 0.98
    assert found.pq >= 0.95


def test_neighbours_part_where_maps_fall_without_changing_their_sign():
    labels = np.zeros((20, 34), np.int32)
    labels[3:17, 3:17], labels[3:17, 17:31] = 1, 2
    foreground, hv = perfect(labels)
    hv[0, labels == 2] = (
        0.4 + 0.55 * hv[0, labels == 2]
    )  # nearly as if all of it lay right of a centre
    hv = np.stack([cv2.GaussianBlur(one, (0, 0), 1.5) for one in hv])
    assert (hv[0, labels == 2] > 0).all()
    found = recovery(labels, decode_hv(foreground, hv, 0.5))
    assert found.found == found.truth == 2
    assert found.pq >= 0.9


@pytest.mark.parametrize("um", [5.0, 10.0])
def test_nuclei_larger_or_smaller_than_expected_come_back(um):
    labels = made_nuclei(300, 0.5, "dense", seed=4)
    found = recovery(labels, decode_hv(*noisy_maps(labels, encode_hv(labels)), 0.5, nucleus_um=um))
    assert found.share >= 0.98
    assert found.pq >= 0.95


@pytest.mark.parametrize("mpp", [0.1, 2.0])
def test_scales_at_either_end(mpp):
    labels = made_nuclei(100, mpp, "dense", seed=2)
    found = recovery(labels, decode_hv(*perfect(labels), mpp))
    assert found.share >= 0.99
    assert found.pq >= 0.97


@pytest.mark.real
@pytest.mark.parametrize("region", ["ROI002", "ROI006", "ROI008"])
def test_small_touching_cells_of_a_real_tissue_come_back(shared_data, region):
    path = shared_data / "mx_imc_spleen" / f"{region}.inst_cells.tif"
    labels = tifffile.imread(path).astype(np.int32)
    found = recovery(labels, decode_hv(*perfect(labels), 1.0))
    assert found.share >= 0.99
    assert found.pq >= 0.97


def test_the_published_constants_fit_their_magnification_and_no_other():
    fitting = made_nuclei(300, 0.25, "dense")
    assert recovery(fitting, decode_hv(*perfect(fitting), 0.25, "published_40x")).share >= 0.95
    small = made_nuclei(300, 1.0, "dense")
    assert recovery(small, decode_hv(*perfect(small), 1.0, "published_20x")).share < 0.1


@pytest.mark.parametrize(
    ("mpp", "preset", "constants"),
    [(0.25, "published_40x", (21, 10)), (0.5, "published_20x", (11, 3))],
)
@pytest.mark.parametrize("maps", ["perfect", "noisy"])
def test_a_published_preset_does_as_its_recipe_says_word_for_word(mpp, preset, constants, maps):
    labels = np.pad(made_nuclei(200, mpp, "packed", seed=3), 12)
    labels[:2, :3] = labels[2:6, 0] = labels.max() + 1  # a marker of 7 px, too small for ×40 alone
    foreground, hv = perfect(labels)
    if maps == "noisy":
        foreground, hv = noisy_maps(labels, hv, blur_px=1.0)
    wanted = literal_recipe(foreground, hv, *constants)
    found = recovery(wanted, decode_hv(foreground, hv, mpp, preset))
    assert found.found == found.truth
    assert found.pq >= (0.999 if find_spec("numba") else 0.997)  # without it levels are coarser


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_window_decodes_as_the_whole_does_away_from_its_border(nuclei, mpp, noise):
    foreground, hv = noisy_maps(nuclei, encode_hv(nuclei), 0.7, noise) if noise else perfect(nuclei)
    reach, size = Scale(mpp).reach_px, len(nuclei)
    whole = decode_hv(foreground, hv, mpp)
    core = np.s_[size // 3 : 2 * size // 3, size // 4 : 3 * size // 4]
    seen = tuple(slice(max(one.start - reach, 0), one.stop + reach) for one in core)
    inner = tuple(
        slice(c.start - s.start, c.stop - s.start) for c, s in zip(core, seen, strict=True)
    )
    part = decode_hv(foreground[seen], hv[:, *seen], mpp)[inner]
    pairs = np.unique(np.stack([whole[core].reshape(-1), part.reshape(-1)]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.int32, (12, 13), elements=st.sampled_from([0, 1, 2, 3, 4])), st.sampled_from(PRESETS)
)
def test_whatever_maps_say_ids_are_in_order_and_inside_the_foreground(labels, preset):
    found = decode_hv(*perfect(labels), 1.0, preset)
    assert found.dtype == np.int32
    assert not found[labels == 0].any()
    met = list(dict.fromkeys(label for label in found.reshape(-1).tolist() if label))
    assert met == list(range(1, len(met) + 1))


@settings(deadline=None, max_examples=30)
@given(
    arrays(
        np.float32, (3, 9, 8), elements=st.sampled_from([-1, 0, 0.6, 1, np.nan, np.inf, -np.inf])
    ),
    st.sampled_from(PRESETS),
)
def test_what_is_not_finite_is_background(maps, preset):
    found = decode_hv(maps[0], maps[1:], 1.0, preset)
    assert not found[~np.isfinite(maps).all(axis=0)].any()


@pytest.mark.parametrize("preset", PRESETS)
def test_background_alone_has_no_instances(preset):
    found = decode_hv(
        np.zeros((30, 40), np.float32), np.zeros((2, 30, 40), np.float32), 0.5, preset
    )
    assert found.shape == (30, 40)
    assert not found.any()


@pytest.mark.parametrize("size", [1, 64, 300])
def test_one_nucleus_may_fill_the_tile(size):
    found = decode_hv(*perfect(np.ones((size, size), np.int32)), 2.0)
    assert (found == 1).all()


def test_a_foreground_without_offsets_is_one_instance_at_most_a_component():
    foreground = np.zeros((40, 40), np.float32)
    foreground[5:15, 5:15] = foreground[20:35, 20:35] = 1
    found = decode_hv(foreground, np.zeros((2, 40, 40), np.float32), 0.5)
    assert set(np.unique(found)) == {0, 1, 2}
    assert (found[5:15, 5:15] == 1).all()


def test_more_nuclei_than_16_bits_hold():
    rows, columns = np.mgrid[:792, :792]
    inside = (rows % 3 < 2) & (columns % 3 < 2)
    labels = np.where(inside, 1 + rows // 3 * 264 + columns // 3, 0).astype(np.int32)
    found = decode_hv(*perfect(labels), 2.0, nucleus_um=4.0)
    assert found.max() == 264 * 264 > 65535


def test_maps_stay_as_they_were():
    labels = made_nuclei(30, 0.5)
    foreground, hv = perfect(labels)
    kept = foreground.copy(), hv.copy()
    decode_hv(foreground, hv, 0.5)
    decode_hv(foreground, hv, 0.5, "published_20x")
    np.testing.assert_array_equal(foreground, kept[0])
    np.testing.assert_array_equal(hv, kept[1])


def test_bad_input_is_named():
    maps = np.zeros((8, 8), np.float32), np.zeros((2, 8, 8), np.float32)
    with pytest.raises(ConfigError, match="preset=best, wanted one of scaled, published_40x"):
        decode_hv(*maps, 0.5, "best")
    with pytest.raises(ConfigError, match="mpp=0"):
        decode_hv(*maps, 0)
    with pytest.raises(SpecMismatchError, match=r"hv \(2, 8, 8\) and foreground \(8, 7\)"):
        decode_hv(maps[0][:, :7], maps[1], 0.5)
