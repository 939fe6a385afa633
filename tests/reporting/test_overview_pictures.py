"""Pictures of predicted tissues: labels sampled at any scale, and rims where cells are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import CLASSES, random_tissue, whole, write_store

from tissueseg.reporting.overview_pictures import CellView, crop, preview, sampled, whole_tissue
from tissueseg.reporting.tissue_summary import CellCounts, TypeCount
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore

RED, GREEN = (255, 0, 0), (0, 255, 0)


def levels_of(labels: np.ndarray, count: int = 1) -> list[Any]:
    arrays = []
    for level in range(count):
        pixels = np.ascontiguousarray(labels[:: 2**level, :: 2**level])
        arrays.append(zarr.array(pixels, chunks=(16, 16)))
    return arrays


def view_of(store: TissueStore, labels: np.ndarray, levels: int = 1) -> CellView:
    """Cells of odd ids are of class 1, those of even ones of class 2."""
    types = 2 - np.arange(int(labels.max()) + 1) % 2
    types[0] = 0
    return CellView(store, "a", levels_of(labels, levels), types, CLASSES)


@pytest.fixture
def store(tmp_path: Path) -> TissueStore:
    return write_store(tmp_path / "s.zarr", {"a": random_tissue(60, 90)})


@settings(deadline=None, max_examples=40)
@given(
    full=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    side=st.integers(1, 90),
    levels=st.integers(1, 4),
)
def test_labels_are_sampled_where_the_picture_s_pixels_are(
    full: tuple[int, int], side: int, levels: int
) -> None:
    """A label that says where it is must be found there, whichever level it is read from."""
    rows, columns = np.mgrid[: full[0], : full[1]]
    labels = (rows * 1000 + columns).astype(np.uint32)
    factor = max(1.0, max(full) / side)
    shape = (max(1, round(full[0] / factor)), max(1, round(full[1] / factor)))
    found = sampled(levels_of(labels, levels), shape)
    assert found.shape == shape
    for axis, place in enumerate((found // 1000, found % 1000)):
        scale = full[axis] / shape[axis]
        middle = (np.arange(shape[axis]) + 0.5) * scale
        middle = middle[:, None] if axis == 0 else middle[None]
        assert (np.abs(place + 0.5 - middle) <= scale + 0.5).all()
    if shape == full:
        np.testing.assert_array_equal(found, labels)


def test_a_small_tissue_is_shown_as_it_is(store: TissueStore) -> None:
    labels = np.zeros((60, 90), np.uint32)
    labels[10:20, 10:20] = 1
    pair = whole_tissue(view_of(store, labels))
    he = whole(store, "a", "he").transpose(1, 2, 0)
    np.testing.assert_array_equal(pair.plain, he)
    changed = (pair.cells != he).any(-1)
    assert changed[10, 10:20].all()
    assert not changed[11:19, 11:19].any()
    assert not changed[labels == 0].any()
    assert (pair.cells[10, 10:20] == RED).all()
    assert pair.window == Window(0, 0, 60, 90)


def test_a_large_tissue_is_shrunk_and_its_cells_stay_in_place(store: TissueStore) -> None:
    labels = np.zeros((60, 90), np.uint32)
    labels[0:20, 0:30], labels[40:60, 60:90] = 1, 2
    pair = whole_tissue(view_of(store, labels, levels=3), side_px=30)
    assert pair.plain.shape == pair.cells.shape == (20, 30, 3)
    means = whole(store, "a", "he").reshape(3, 20, 3, 30, 3).mean((2, 4)).transpose(1, 2, 0)
    assert np.abs(pair.plain - means).max() <= 0.51
    for color, corner in ((RED, (0, 0)), (GREEN, (19, 29))):
        at = np.argwhere((pair.cells == color).all(-1))
        assert (np.abs(at - corner) < 10).all()
        assert len(at) == 7 + 10 - 1  # where the tissue cuts a cell there is no rim
    assert (pair.cells[10, 15] == pair.cells[10, 15, 0]).all()  # grey below spots of colour


def test_crops_are_of_their_window(store: TissueStore) -> None:
    labels = np.zeros((60, 90), np.uint32)
    labels[10:20, 10:20] = 2
    pair = crop(view_of(store, labels), Window(5, 5, 30, 40))
    he = whole(store, "a", "he").transpose(1, 2, 0)[5:35, 5:45]
    np.testing.assert_array_equal(pair.plain, he)
    assert (pair.cells[5, 5:15] == GREEN).all()
    assert pair.cells.shape == (30, 40, 3)


def test_sp_is_shown_where_there_is_no_he(tmp_path: Path) -> None:
    tissue = random_tissue(40, 50, he=None)
    store = write_store(tmp_path / "sp.zarr", {"a": tissue}, images=("sp",))
    view = view_of(store, np.zeros((40, 50), np.uint32))
    pair = whole_tissue(view)
    assert not pair.plain[..., 0].any()  # two channels: blue and green
    assert pair.plain[..., 2].any()
    counts = CellCounts((TypeCount("tumor", "#ff0000", 1234),))
    with_channels = preview(view, pair, counts)
    colors = {color for _, color in with_channels.getcolors(1 << 20) or []}
    assert {RED, GREEN, (0, 0, 255)} <= colors  # of the type and of both channels
    assert with_channels.width == 2 * 56 + 6


def test_memory_is_a_window_and_a_strip(store: TissueStore, monkeypatch: Any) -> None:
    labels = np.ones((60, 90), np.uint32)
    view = view_of(store, labels, levels=3)
    sizes: list[int] = []
    plain = zarr.Array.__getitem__

    def traced(self: zarr.Array, selection: Any) -> Any:
        found = plain(self, selection)
        if self.dtype == np.uint32:
            sizes.append(np.asarray(found).size)
        return found

    monkeypatch.setattr(zarr.Array, "__getitem__", traced)
    whole_tissue(view, side_px=20)
    assert sizes == [15 * 23]  # the last level alone
    sizes.clear()
    whole_tissue(view_of(store, labels), side_px=20)
    assert max(sizes) == 16 * 90
