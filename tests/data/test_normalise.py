"""Normalisation against the formula, worked out here from raw pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stores import random_tissue, whole, write_store

from tissueseg.contracts import Modality, Normalisation
from tissueseg.data.normalise import Normaliser, silent_channels
from tissueseg.errors import ConfigError

HE, SP, HE_SP = Modality


def cohort(**replaced):
    """Three tissues of unlike size and brightness; the last of them validates."""
    tissues = {}
    for i, (height, width) in enumerate([(24, 40), (48, 32), (32, 32)]):
        rng = np.random.default_rng(i)
        sp = rng.gamma(1 + i, 300 * (i + 1), (2, height, width)).astype(np.float32)
        tissues["abc"[i]] = random_tissue(height, width, i, sp=sp)
    return tissues | replaced


@pytest.fixture
def store(tmp_path: Path):
    return write_store(tmp_path / "s.zarr", cohort())


def by_hand(store, train, tissue, quantile=0.99):
    """Clip at the tissue's own quantile, log1p, standardise by the training pixels' moments."""

    def logs(name):
        raw = whole(store, name, "sp").astype(np.float64)
        return np.stack([np.log1p(np.minimum(c, np.quantile(c, quantile))) for c in raw])

    pooled = np.concatenate([logs(name).reshape(2, -1) for name in train], axis=1)
    mean, std = pooled.mean(1)[:, None, None], pooled.std(1)[:, None, None]
    return (logs(tissue) - mean) / (std + 1e-8)


def scaled(normaliser, store, tissue):
    return normaliser.sp(whole(store, tissue, "sp"), normaliser.clips(store, tissue))


@pytest.mark.parametrize("quantile", [0.99, 0.999])
@pytest.mark.parametrize("tissue", ["a", "c"])
def test_sp_follows_the_formula(store, tissue, quantile):
    normaliser = Normaliser.fit(store, ("a", "b"), SP, Normalisation(sp_quantile=quantile))
    found = scaled(normaliser, store, tissue)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(store, "ab", tissue, quantile), atol=2e-5)


def test_training_pixels_come_out_standardised(store):
    normaliser = Normaliser.fit(store, ("a", "b"), SP, Normalisation())
    pooled = np.concatenate([scaled(normaliser, store, t).reshape(2, -1) for t in "ab"], axis=1)
    np.testing.assert_allclose(pooled.mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(pooled.std(1), 1, atol=1e-4)


def test_a_validation_tissue_has_no_say(store, tmp_path):
    brighter = random_tissue(32, 32, 9, sp=np.full((2, 32, 32), 9, np.uint16) * [[[7]], [[3000]]])
    brighter = brighter._replace(sp=brighter.sp.astype(np.float32))
    other = write_store(tmp_path / "other.zarr", cohort(c=brighter))
    one = Normaliser.fit(store, ("a", "b"), HE_SP, Normalisation())
    two = Normaliser.fit(other, ("a", "b"), HE_SP, Normalisation())
    assert one == two
    np.testing.assert_array_equal(scaled(one, store, "a"), scaled(two, other, "a"))
    assert Normaliser.fit(store, ("a", "b", "c"), HE_SP, Normalisation()) != one


def test_integer_intensities_are_scaled_like_floats(tmp_path):
    sp = np.random.default_rng(0).integers(0, 60_000, (2, 32, 32), np.uint16)
    kinds = {"i": sp, "f": sp.astype(np.float32)}
    store = write_store(
        tmp_path / "s.zarr", {k: random_tissue(32, 32, sp=v) for k, v in kinds.items() if k == "i"}
    )
    normaliser = Normaliser.fit(store, ("i",), SP, Normalisation())
    clips = normaliser.clips(store, "i")
    np.testing.assert_array_equal(normaliser.sp(sp, clips), normaliser.sp(kinds["f"], clips))
    np.testing.assert_allclose(scaled(normaliser, store, "i"), by_hand(store, "i", "i"), atol=2e-5)


@pytest.mark.parametrize("level", [0, 700])
def test_a_constant_channel_reads_0_there_and_is_named(tmp_path, level):
    flat = cohort()["b"].sp.copy()
    flat[1] = level
    tissues = cohort(b=cohort()["b"]._replace(sp=flat))
    store = write_store(tmp_path / "s.zarr", tissues)
    normaliser = Normaliser.fit(store, ("a", "b"), SP, Normalisation())
    assert not scaled(normaliser, store, "b")[1].any()
    assert scaled(normaliser, store, "b")[0].any()
    # The tissue without signal says nothing about the channel's cohort moments.
    np.testing.assert_allclose(
        scaled(normaliser, store, "a")[1], by_hand(store, "a", "a")[1], atol=2e-5
    )
    assert silent_channels(store, "abc", normaliser) == {"CD3": ["b"]}


def test_a_channel_that_no_training_tissue_shows_is_left_out_everywhere(tmp_path):
    tissues = cohort()
    for name in "ab":
        silent = tissues[name].sp.copy()
        silent[1] = 0
        tissues[name] = tissues[name]._replace(sp=silent)
    store = write_store(tmp_path / "s.zarr", tissues)
    normaliser = Normaliser.fit(store, ("a", "b"), SP, Normalisation())
    assert not scaled(normaliser, store, "c")[1].any()
    assert np.isfinite(scaled(normaliser, store, "c")).all()
    assert silent_channels(store, "abc", normaliser) == {"CD3": ["a", "b", "c"]}


def test_a_quantile_that_was_not_measured_is_refused(store):
    with pytest.raises(ConfigError, match=r"sp_quantile=0.9 .*choose from 0.99, 0.995, 0.999"):
        Normaliser.fit(store, ("a",), SP, Normalisation(sp_quantile=0.9))


def test_he_is_centred_on_the_encoder_s_mean():
    normalisation = Normalisation(he_mean=(0.7, 0.5, 0.6), he_std=(0.2, 0.25, 0.5))
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 7), np.uint8)
    found = Normaliser(HE, normalisation).he(image)
    assert found.dtype == np.float32
    expected = [
        (image[i] / 255 - mean) / std
        for i, (mean, std) in enumerate([(0.7, 0.2), (0.5, 0.25), (0.6, 0.5)])
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_he_alone_needs_no_statistics(store):
    normaliser = Normaliser.fit(store, ("a",), HE, Normalisation(sp_quantile=0.5))
    assert normaliser == Normaliser(HE, Normalisation(sp_quantile=0.5))
    assert silent_channels(store, "abc", normaliser) == {}


@pytest.mark.parametrize("modality", Modality)
def test_it_survives_a_file_that_holds_plain_types_only(store, tmp_path, modality):
    one = Normaliser.fit(store, ("a", "b"), modality, Normalisation(he_mean=(0.1, 0.2, 0.3)))
    torch.save(one.as_dict(), tmp_path / "n.pt")
    two = Normaliser.from_dict(torch.load(tmp_path / "n.pt", weights_only=True))
    assert one == two
    assert isinstance(two.modality, Modality)


def test_published_moments_are_used_as_they_are(tmp_path: Path):
    moments = {"0.99": {"mean": [1.5, 2.5], "std": [0.5, 0.25]}}
    store = write_store(tmp_path / "s.zarr", cohort(), moments=moments)
    published = Normaliser.fit(store, ["a"], SP, Normalisation())
    assert (published.sp_mean, published.sp_std) == ((1.5, 2.5), (0.5, 0.25))
    other = Normaliser.fit(store, ["a"], SP, Normalisation(sp_quantile=0.999))
    assert other.sp_mean != (1.5, 2.5)
