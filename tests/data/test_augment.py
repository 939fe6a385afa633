"""An augmentation: which parts apply, in what groups, and what each draws."""

from functools import partial

import numpy as np
import pytest

from tissueseg.data.augment import Augmentation
from tissueseg.data.sp_noise import ChannelDropout, Gain, Offset, ShotNoise
from tissueseg.data.transforms import library_ready, random_zoom
from tissueseg.errors import ConfigError
from tissueseg.numbers import shown

library_ready()
import albumentations as A  # noqa: E402 - it asks a server for its newest version unless told not to

BOTH = ("he", "sp")
HE = {"jitter": partial(A.ColorJitter, p=1)}
SP = {"shot": ShotNoise(), "gain": Gain(0.3), "dropout": ChannelDropout(0.3)}
GEOMETRY = {"affine": partial(A.Affine, rotate=45, p=1)}


def test_parts_are_named_and_those_for_other_images_are_idle():
    whole = {"geometry": GEOMETRY, "he": HE, "sp": SP}
    both = Augmentation(BOTH, 32, **whole)
    assert both.parts == ("geometry.affine", "he.jitter", "sp.shot", "sp.gain", "sp.dropout")
    assert both.idle == ()
    he, sp = (Augmentation((image,), 32, **whole) for image in BOTH)
    assert he.parts == ("geometry.affine", "he.jitter")
    assert he.idle == ("sp.shot", "sp.gain", "sp.dropout")
    assert sp.idle == ("he.jitter",)
    rgb, channels = np.full((3, 8, 8), 90, np.uint8), np.ones((2, 8, 8), np.float32)
    assert sp.he(rgb, 1) is rgb
    assert he.sp_raw(channels, np.ones(2), 1) is channels
    assert he.sp_scaled(channels, np.ones(2, bool), 1).all()
    assert (channels == 1).all()


def test_without_parts_there_is_nothing_to_do():
    none = Augmentation(BOTH, 32, margin=0.5)
    assert not none
    assert (none.moves, none.margin_px) == (False, 0)
    assert Augmentation(BOTH, 33, geometry=GEOMETRY, margin=0.25).margin_px == 9


def drawn(augmentation, draw):
    """Everything an augmentation makes of one tile, as bytes."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, 32, 32), np.uint8)
    raw = rng.integers(0, 4000, (4, 32, 32), np.uint16)
    clips = np.full(4, 3000, np.float32)
    he = augmentation.he(rgb, draw)
    noisy = augmentation.sp_raw(raw, clips, draw).astype(np.float32)
    kept = augmentation.sp_scaled(noisy, np.ones(4, bool), draw)
    return he.tobytes(), noisy.tobytes(), kept.tobytes()


def test_all_follows_from_the_draw():
    made = Augmentation(BOTH, 32, he=HE, sp=SP)
    first = [drawn(made, draw) for draw in (1, 2, 2**63 - 1)]
    assert [drawn(made, draw) for draw in (2**63 - 1, 2, 1)] == first[::-1]
    assert len(set(first)) == 3


def test_a_part_draws_the_same_whatever_stands_beside_it():
    alone = Augmentation(BOTH, 32, sp={"dropout": ChannelDropout(0.3)})
    beside = Augmentation(BOTH, 32, he=HE, sp=SP | {"offset": Offset()})
    kept = [drawn(alone, draw)[2] for draw in range(20)]
    assert kept == [drawn(beside, draw)[2] for draw in range(20)]
    assert len(set(kept)) > 3


def test_parts_of_one_kind_draw_apart_by_their_names():
    twice = Augmentation(("sp",), 32, sp={"one": Offset(1.0), "other": Offset(1.0)})
    image = np.zeros((2, 4, 4), np.float32)
    twice.sp_scaled(image, np.ones(2, bool), 5)
    once = np.zeros_like(image)
    Augmentation(("sp",), 32, sp={"one": Offset(1.0)}).sp_scaled(once, np.ones(2, bool), 5)
    assert not np.allclose(image, 2 * once)


def test_images_keep_their_channels_first():
    augmentation = Augmentation(BOTH, 32, geometry=GEOMETRY)
    image, planes = np.zeros((5, 40, 40), np.float32), np.ones((3, 40, 40), np.int32)
    moved, labels = augmentation.moved(image, planes, 1)
    assert (moved.shape, labels.shape) == (image.shape, planes.shape)
    rgb = np.zeros((3, 20, 40), np.uint8)
    assert Augmentation(BOTH, 32, he=HE).he(rgb, 1).shape == rgb.shape


def test_crops_know_the_side_with_halo_and_margin():
    zoom = {"zoom": partial(random_zoom, largest=2.0, p=1.0)}
    augmentation = Augmentation(BOTH, 32, halo_px=8, geometry=zoom, margin=0.25)
    side = 32 + 2 * 8 + 2 * 8
    image = np.zeros((3, side, side), np.float32)
    moved, _ = augmentation.moved(image, np.ones((3, side, side), np.int32), 1)
    assert moved.shape == (3, side - 16, side - 16)  # without the margin
    augmentation.try_out()


@pytest.mark.parametrize("margin", [-0.1, 3, "much", True, float("nan")])
def test_a_margin_is_a_share_of_the_tile(margin):
    with pytest.raises(ConfigError, match=rf"augmentation\.margin={shown(margin)}, wanted"):
        Augmentation(BOTH, 32, margin=margin)


@pytest.mark.parametrize("part", [3, A.Blur, object()])
def test_unknown_parts_of_sp_are_refused(part):
    with pytest.raises(ConfigError, match=r"augmentation\.sp\.odd=.*wanted ShotNoise, "):
        Augmentation(BOTH, 32, sp={"odd": part})
