"""What training does to SP images, part by part."""

import numpy as np
import pytest

from tissueseg.data.sp_noise import ChannelDropout, Gain, Offset, ShotNoise
from tissueseg.errors import ConfigError


def rng(seed=0):
    return np.random.default_rng(seed)


def test_shot_noise_keeps_the_mean_and_has_the_variance_of_photons():
    image = np.stack([np.full((200, 200), value, np.uint16) for value in (0, 200, 2000, 4000)])
    clips = np.array([1000, 2000, 2000, 2000], np.float32)  # of 100 photons: 0, 10, 100 and 200
    noisy = ShotNoise((100, 100))(image, clips, rng())
    assert noisy.dtype == np.float32
    assert not noisy[0].any()
    photons = noisy[1:] / 20
    np.testing.assert_allclose(photons.mean((1, 2)), [10, 100, 200], rtol=0.01)
    np.testing.assert_allclose(photons.var((1, 2)), [10, 100, 200], rtol=0.05)
    assert (noisy >= 0).all()


def test_shot_noise_knows_channels_without_signal_and_takes_floats():
    image = np.full((2, 8, 8), 3.5, np.float32)
    noisy = ShotNoise((30, 300))(image, np.array([np.nan, 4.0], np.float32), rng())
    assert np.isfinite(noisy).all()
    assert (image == 3.5).all()  # what was read is left as it is


def test_photons_differ_from_draw_to_draw_within_their_limits():
    image, clips = np.full((1, 100, 100), 1000, np.uint16), np.array([1000], np.float32)
    found = [
        1e6 / ShotNoise((30, 300))(image, clips, rng(seed)).var() for seed in range(40)
    ]  # photons, of the relative variance
    assert 28 < min(found) < 60
    assert 150 < max(found) < 320


def test_a_part_that_is_not_drawn_changes_nothing():
    image, clips = np.ones((2, 4, 4), np.float32), np.ones(2, np.float32)
    assert ShotNoise(p=0)(image, clips, rng()) is image
    present = np.array([True, True])
    for part in (Gain(0.5, p=0), Offset(0.5, p=0), ChannelDropout(0)):
        assert part(image, present, rng()).tolist() == [True, True]
    assert (image == 1).all()


def test_dropped_channels_read_0_and_are_said_to_be_missing():
    dropped = np.zeros(6)
    for seed in range(300):
        image, present = np.ones((6, 2, 2), np.float32), np.array([True] * 5 + [False])
        kept = ChannelDropout(0.3)(image, present, rng(seed))
        np.testing.assert_array_equal(image.any((1, 2)), kept)
        assert not kept[5]
        dropped += ~kept
    np.testing.assert_allclose(dropped[:5] / 300, 0.3, atol=0.08)


def test_at_least_one_channel_stays():
    for seed in range(20):
        kept = ChannelDropout(1.0)(
            np.ones((4, 2, 2), "f4"), np.array([0, 1, 1, 1], bool), rng(seed)
        )
        assert kept.sum() == 1
        assert not kept[0]
    nothing = ChannelDropout(1.0)(np.zeros((2, 2, 2), "f4"), np.zeros(2, bool), rng())
    assert not nothing.any()


def test_gain_and_offset_are_one_number_per_channel():
    image, present = np.full((3, 4, 4), 2, np.float32), np.array([True, True, False])
    image[2] = 0
    Gain(0.2)(image, present, rng())
    gains = image[:, 0, 0] / 2
    assert (image == image[:, :1, :1]).all()
    assert gains[2] == 0
    assert 0.8 <= gains[0] != gains[1] <= 1.2
    image[:2] = 0
    Offset(0.3)(image, present, rng(1))
    assert (image == image[:, :1, :1]).all()
    assert not image[2].any()
    assert 0 < abs(image[0, 0, 0]) <= 0.3
    assert image[0, 0, 0] != image[1, 0, 0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ChannelDropout(1.5), r"ChannelDropout.p=1.5, wanted a number 0 … 1\."),
        (lambda: Gain(-0.1), r"Gain.amount=-0.1, wanted"),
        (lambda: Gain(0.1, p="often"), r"Gain.p=often, wanted"),
        (lambda: Offset(float("nan")), r"Offset.amount=nan, wanted a number 0 … 10\."),
        (lambda: ShotNoise((0, 10)), r"ShotNoise.photons=\(0, 10\), wanted least and most"),
        (lambda: ShotNoise(50), r"ShotNoise.photons=50, wanted least and most"),
        (lambda: ShotNoise((300, 30)), r"ShotNoise.photons=\(300, 30\), wanted least and most"),
        (lambda: ShotNoise(p=True), r"ShotNoise.p=true, wanted"),
    ],
)
def test_options_that_cannot_be_used_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
