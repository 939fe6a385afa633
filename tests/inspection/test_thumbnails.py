"""Thumbnails are area means, whatever windows they are read by."""

from __future__ import annotations

import numpy as np
import pytest

from tissueseg.inspection.fields import NucleusGrid
from tissueseg.inspection.thumbnails import thumbnail
from tissueseg.store.planes import Tissue

from .conftest import Write


def random_tissue(height: int, width: int) -> Tissue:
    rng = np.random.default_rng(0)
    nothing = np.zeros((height, width), np.uint8)
    he = rng.integers(0, 256, (3, height, width), np.uint8)
    sp = rng.integers(0, 60_000, (3, height, width), np.uint16)
    return Tissue(nothing.astype(np.int32), nothing, he, sp)


def test_whole_factors_give_block_means(write: Write) -> None:
    tissue = random_tissue(400, 600)
    assert tissue.sp is not None
    small = thumbnail(write({"a": tissue}), "a", "sp", [2, 0], 150)
    blocks = tissue.sp[[2, 0]].reshape(2, 100, 4, 150, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(small, blocks, rtol=1e-6)


@pytest.mark.parametrize("side", [7, 100, 333])
def test_windows_do_not_show(write: Write, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    store = write({"a": random_tissue(333, 500)})
    whole = thumbnail(store, "a", "he", range(3), side)
    monkeypatch.setattr("tissueseg.inspection.thumbnails.shard_px", lambda *_: (90, 70))
    parts = thumbnail(store, "a", "he", range(3), side)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    assert max(whole.shape[1:]) == side


def test_small_tissues_keep_their_pixels(write: Write) -> None:
    tissue = random_tissue(20, 31)
    assert tissue.he is not None
    small = thumbnail(write({"a": tissue}), "a", "he", range(3), 256)
    np.testing.assert_array_equal(small, tissue.he)


def test_long_strips_keep_a_row(write: Write) -> None:
    assert thumbnail(write({"a": random_tissue(3, 900)}), "a", "he", [0], 100).shape == (1, 1, 100)


def test_fields_lie_where_cells_are_densest_and_apart() -> None:
    grid = NucleusGrid((2000, 3000))
    rng = np.random.default_rng(0)
    for count, (y, x) in ((300, (300, 300)), (200, (1500, 2500))):
        places = rng.integers(0, 200, (2, count))
        grid.add(places[0] + y, places[1] + x)
    first, second = grid.densest(4, 512)
    assert first.y <= 300 < 500 <= first.y + first.height
    assert second.x <= 2500 < 2700 <= second.x + second.width
    assert (second.height, second.width) == (512, 512)
    assert max(second.y + 512 - 2000, second.x + 512 - 3000) <= 0
    assert NucleusGrid((500, 500)).densest(4, 512) == []
