"""Tiles without labels: each a function of its pick alone, of stores with other panels and scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from stores import PANEL, random_tissue, whole, write_store
from torch import Generator, Tensor

from tissueseg.contracts import Channel, Modality, Normalisation
from tissueseg.data.dataset import Pick
from tissueseg.data.image_tiles import Hidden, ImageTiles, Source, collate_images
from tissueseg.data.normalise import Normaliser
from tissueseg.data.views import Views
from tissueseg.errors import SplitError

TILE_PX, CELLS, DECODED = 32, 16, 4


def hide(present: Tensor, generator: Generator) -> Hidden:
    """As an autoencoder of SP does: of few channels all are filled in."""
    hidden = torch.rand(len(present), CELLS, generator=generator) < 0.7
    return Hidden(hidden, torch.randperm(len(present), generator=generator)[:DECODED])


def source(store, tissues=None, modality="sp", channels=None, markers=None, read_px=TILE_PX):
    tissues = tissues or store.tissues
    normaliser = Normaliser.fit(store, tissues, Modality(modality), Normalisation())
    count = 3 if modality == "he" else len(store.panel)
    channels = tuple(range(count)) if channels is None else channels
    return Source(store, tissues, normaliser, channels, markers or channels, read_px)


def tiles_of(*sources, **options):
    return ImageTiles(sources, TILE_PX, hide, **options)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A store of five channels, one of which has no signal in tissue `x`."""
    panel = (*PANEL, Channel("CD8", "P01732"), Channel("CD20", "P11836"), Channel("Ki67", "P46013"))
    rng = np.random.default_rng(3)
    made = {}
    for seed, name in enumerate(("x", "y")):
        sp = rng.integers(0, 4000, (len(panel), 64, 96), np.uint16)
        sp[2] *= name != "x"
        made[name] = random_tissue(64, 96, seed, sp=sp)
    return write_store(tmp_path_factory.mktemp("wide") / "s.zarr", made, panel=panel)


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_tile_is_a_function_of_its_pick(uneven):
    one, two = (tiles_of(source(uneven), views=Views(8)) for _ in range(2))
    pick = Pick(3, view=5, draw=77)
    before = one[pick]
    for other in (Pick(0, 1, 5), Pick(3, 2, 77), Pick(3, 5, 78)):
        assert not same(one[other], before)
    assert same(one[pick], before)
    assert same(two[pick], before)
    assert torch.equal(one[Pick(0, 0, 77)].hidden, before.hidden)  # of the draw, and of no other


def test_what_is_hidden_of_scored_tiles_follows_seed_and_place(uneven):
    one, two, other = (tiles_of(source(uneven), seed=seed) for seed in (0, 0, 1))
    items = [one[i] for i in range(len(one))]
    assert all(same(item, two[i]) for i, item in reversed(list(enumerate(items))))
    assert not any(torch.equal(item.hidden, other[i].hidden) for i, item in enumerate(items))
    assert len({item.hidden.numpy().tobytes() for item in items}) == len(items)


def test_every_tile_of_every_store_comes_once(uneven, wide):
    tiles = tiles_of(source(uneven), source(wide))
    assert tiles.tissues == ("a", "b", "c", "x", "y")
    places = [
        (tiles.tissues[int(t.tissue)], *t.origin.tolist())
        for t in (tiles[i] for i in range(len(tiles)))
    ]
    assert len(set(places)) == len(tiles) == 6 + 6 + 2 + 6 + 6
    assert places[-1] == ("y", 32, 64)


def test_pixels_are_the_tissues_own_normalised_and_turned(uneven):
    given = source(uneven, channels=(1, 0), markers=(7, 3))
    tiles = tiles_of(given, views=Views(8))
    clips = given.normaliser.clips(uneven, "a")
    pixels = given.normaliser.sp(whole(uneven, "a", "sp")[:, :32, 32:64], clips)[[1, 0]]
    plain, turned = tiles[Pick(1, 0, 0)], tiles[Pick(1, 1, 0)]
    np.testing.assert_array_equal(plain.image.numpy(), pixels)
    np.testing.assert_array_equal(turned.image.numpy(), np.rot90(pixels, axes=(1, 2)))
    assert plain.markers.tolist() == [7, 3]
    assert plain.present.all()


def test_channels_without_signal_are_absent(wide):
    first, second = source(wide, ("x",)), source(wide, ("y",))
    found = tiles_of(first._replace(normaliser=second.normaliser), second)
    assert found[0].present.tolist() == [True, True, False, True, True]
    assert not found[0].image[2].any()
    assert found[6].present.all()


def test_tiles_of_other_panels_are_collated_with_absent_channels(uneven, wide):
    tiles = tiles_of(source(uneven, markers=(4, 0)), source(wide))
    few, many = tiles[0], tiles[20]
    batch = collate_images([few, many])
    assert batch.image.shape == (2, 5, TILE_PX, TILE_PX)
    assert batch.present[0].tolist() == [True, True, False, False, False]
    assert batch.hidden[0, 2:].all()
    assert batch.decoded.shape == (2, DECODED)
    assert torch.equal(batch.decoded[0, :2], few.decoded)
    assert not batch.present[0, batch.decoded[0, 2:]].any()  # they count for nothing
    assert batch.markers[0].tolist() == [4, 0, 0, 0, 0]
    for row, item in enumerate((few, many)):
        channels = len(item.present)
        assert torch.equal(batch.image[row, :channels], item.image)
        assert torch.equal(batch.hidden[row, :channels], item.hidden)
    assert same(collate_images([many]), [part[None] for part in many])
    assert not batch.image[0, 2:].any()


def test_stores_of_another_scale_are_brought_to_the_encoders(uneven, wide):
    """One at half the pixel size is read twice as wide, and averaged."""
    tiles = tiles_of(source(wide, ("y",), read_px=2 * TILE_PX), source(uneven, ("a",)))
    item, given = tiles[0], source(wide, ("y",))
    assert len(tiles) == 2 + 6
    pixels = given.normaliser.sp(
        whole(wide, "y", "sp")[:, :64, :64], given.normaliser.clips(wide, "y")
    )
    wanted = F.interpolate(
        torch.from_numpy(pixels)[None], (TILE_PX,) * 2, mode="bilinear", antialias=True
    )
    torch.testing.assert_close(item.image, wanted[0])
    assert tiles[1].origin.tolist() == [0, 32]  # the last is moved back inside
    assert collate_images([tiles[0], tiles[2]]).image.shape[-1] == TILE_PX


@pytest.mark.parametrize("modality", ["sp", "he"])
def test_tissues_need_no_labels(tmp_path, modality):
    labelled, bare = random_tissue(), random_tissue()._replace(instances=None, classes=None)
    one, two = (
        tiles_of(source(write_store(tmp_path / f"{n}.zarr", {"t": tissue}), modality=modality))
        for n, tissue in enumerate((labelled, bare))
    )
    assert len(one) == len(two) == 4
    assert all(same(one[i], two[i]) for i in range(4))


def test_labels_are_never_read(uneven, monkeypatch):
    read, asked = type(uneven).read, []

    def watched(self, tissue, array, window):
        asked.append((tissue, array))
        return read(self, tissue, array, window)

    monkeypatch.setattr(type(uneven), "read", watched)
    tiles = tiles_of(source(uneven, ("a", "b")))
    for item in range(len(tiles)):
        tiles[item]
    assert set(asked) == {("a", "sp"), ("b", "sp")}


def test_no_tissue_is_no_tile():
    with pytest.raises(SplitError, match=r"choose a smaller data\.tile_px"):
        tiles_of()
