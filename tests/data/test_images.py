"""Tile images: one way for training and for encoding, several views of one read alike."""

from __future__ import annotations

import numpy as np
import pytest
from stores import random_tissue, whole, write_store

from tissueseg.contracts import Modality, Normalisation
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.views import View, Views

VIEWS = Views(8, extra=4, he_jitter=0.3, sp_dropout=0.5)
EVERY = range(len(VIEWS))
ORIGINS = {"a": (16, 48), "b": (64, 1), "c": (0, 32)}  # inside, over an edge, lower than a tile


def make(store, modality="he_sp", halo_px=0, tile_px=32):
    normaliser = Normaliser.fit(store, ("a",), Modality(modality), Normalisation())
    return TileImages(store, store.tissues, normaliser, tile_px, halo_px), normaliser


def pixels(store, tissue, kind, origin, side):
    """Raw pixels of a tile, mirrored beyond the tissue."""
    image = whole(store, tissue, kind)
    reach = [(0, 0), *((side, side + start) for start in origin)]
    y, x = (start + side for start in origin)
    return np.pad(image, reach, mode="symmetric")[:, y : y + side, x : x + side]


@pytest.mark.parametrize("modality", ["he", "sp", "he_sp"])
@pytest.mark.parametrize("halo_px", [0, 8])
@pytest.mark.parametrize("tissue", ORIGINS)
def test_several_views_of_one_read_are_those_read_alone_byte_for_byte(
    uneven, modality, halo_px, tissue
):
    images, _ = make(uneven, modality, halo_px)
    views = [VIEWS.view(i, tissue, ORIGINS[tissue]) for i in EVERY]
    together = list(images.views(tissue, ORIGINS[tissue], [*views, *reversed(views)]))
    for view, *both in zip(views, together, reversed(together), strict=False):
        image, present = images.read(tissue, ORIGINS[tissue], view)
        for other, others in both:
            assert (other.dtype, other.shape) == (np.float32, image.shape)
            assert other.tobytes() == image.tobytes()
            assert others.tobytes() == present.tobytes()


@pytest.mark.parametrize("tissue", ORIGINS)
@pytest.mark.parametrize("index", EVERY)
def test_a_view_is_stained_and_thinned_then_normalised_then_turned(uneven, tissue, index):
    images, normaliser = make(uneven)
    origin = ORIGINS[tissue]
    view = VIEWS.view(index, tissue, origin)
    he, sp = (pixels(uneven, tissue, kind, origin, 32) for kind in ("he", "sp"))
    kept = view.kept(np.ones(2, bool))
    scaled = normaliser.sp(sp, normaliser.clips(uneven, tissue)) * kept[:, None, None]
    wanted = np.concatenate([normaliser.he(view.stained(he)), scaled])
    image, present = images.read(tissue, origin, view)
    np.testing.assert_array_equal(image, view.turned(wanted))
    assert present.tolist() == [True] * 3 + kept.tolist()


def test_extra_views_do_alter_both_images(uneven):
    images, _ = make(uneven)
    plain, _ = images.read("a", ORIGINS["a"], View(0))
    extra = [VIEWS.view(i, "a", ORIGINS["a"]) for i in range(8, 12)]
    read = [images.read("a", ORIGINS["a"], view) for view in extra]
    assert {tuple(present[3:]) for _, present in read} > {(True, True)}
    for view, (image, present) in zip(extra, read, strict=True):
        turned = view.turned(plain)
        assert not np.array_equal(image[:3], turned[:3])
        assert not image[~present].any()
        np.testing.assert_array_equal(image[3:][present[3:]], turned[3:][present[3:]])


def test_a_stain_reaches_into_the_halo_and_over_the_edge(uneven):
    """The encoder sees one image, not a tile in a frame of another stain."""
    images, normaliser = make(uneven, "he", halo_px=8)
    for tissue, (y, x) in ORIGINS.items():
        view = VIEWS.view(9, tissue, (y, x))
        wide = make(uneven, "he", tile_px=48)[0]
        around, _ = wide.read(tissue, (y - 8, x - 8), View(0))
        raw = np.rint((around + 1) * 127.5).astype(np.uint8)
        image, _ = images.read(tissue, (y, x), view)
        np.testing.assert_array_equal(image, view.turned(normaliser.he(view.stained(raw))))


def test_channels_without_signal_are_absent_in_every_view(tmp_path):
    lit, dark = random_tissue(32, 32, 0), random_tissue(32, 32, 1)
    dark.sp[1] = 0
    store = write_store(tmp_path / "s.zarr", {"a": lit, "dark": dark})
    images, _ = make(store)
    for index in EVERY:
        image, present = images.read("dark", (0, 0), VIEWS.view(index, "dark", (0, 0)))
        assert present.tolist() == [True] * 4 + [False]  # the last one left is never dropped
        assert not image[4].any()


def test_what_one_view_alters_does_not_show_in_the_next(uneven):
    images, _ = make(uneven)
    extra = [VIEWS.view(i, "a", ORIGINS["a"]) for i in (8, 9, 10, 11)]
    (_, *_, (last, present)) = images.views("a", ORIGINS["a"], [View(0), *extra, View(0)])
    alone, every = images.read("a", ORIGINS["a"], View(0))
    np.testing.assert_array_equal(last, alone)
    assert present.all()
    assert every.all()
