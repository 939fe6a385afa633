"""Tiles: every covered pixel is owned exactly once, at any size and edge policy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tissueseg.data.tiles import EDGES, TileCover, TileGrid
from tissueseg.errors import ConfigError

sizes = st.integers(1, 90)
tile_sizes = st.integers(1, 40)
edges = st.sampled_from(EDGES)


def owners(grid: TileGrid, height: int, width: int) -> np.ndarray:
    """(height, width): how many tiles own each pixel; fails on an owned pixel beyond the tissue."""
    owned = np.zeros((height, width), int)
    for i in range(len(grid)):
        rows, columns = grid[i]
        assert 0 <= rows.own_start < rows.own_stop <= height
        assert 0 <= columns.own_start < columns.own_stop <= width
        owned[rows.own_start : rows.own_stop, columns.own_start : columns.own_stop] += 1
    return owned


@given(sizes, sizes, tile_sizes, st.sampled_from(["pad", "shift"]))
def test_pad_and_shift_own_every_pixel_once(height, width, tile_px, edge):
    assert (owners(TileGrid(height, width, tile_px, edge), height, width) == 1).all()


@given(sizes, sizes, tile_sizes)
def test_drop_owns_the_whole_tiles_once_and_nothing_else(height, width, tile_px):
    expected = np.zeros((height, width), int)
    expected[: height // tile_px * tile_px, : width // tile_px * tile_px] = 1
    found = owners(TileGrid(height, width, tile_px, "drop"), height, width)
    np.testing.assert_array_equal(found, expected)


@given(sizes, sizes, tile_sizes, edges)
def test_a_tile_owns_only_what_it_shows(height, width, tile_px, edge):
    grid = TileGrid(height, width, tile_px, edge)
    for span in (span for i in range(len(grid)) for span in grid[i]):
        assert span.start <= span.own_start < span.own_stop <= span.start + tile_px


@given(sizes, sizes, tile_sizes, edges)
def test_length_is_the_number_of_distinct_tiles(height, width, tile_px, edge):
    grid = TileGrid(height, width, tile_px, edge)
    corners = {
        (tile.rows.start, tile.columns.start) for tile in map(grid.__getitem__, range(len(grid)))
    }
    assert len(corners) == len(grid)
    for outside in (-1, len(grid)):
        with pytest.raises(IndexError):
            grid[outside]


@given(sizes, sizes, tile_sizes, st.sampled_from(["shift", "drop"]))
def test_shift_and_drop_stay_inside_where_there_is_room(height, width, tile_px, edge):
    grid = TileGrid(height, width, tile_px, edge)
    for tile in map(grid.__getitem__, range(len(grid))):
        for span, length in zip(tile, (height, width), strict=True):
            assert span.start >= 0
            assert span.start + tile_px <= length or (length < tile_px and edge == "shift")


@given(sizes, sizes, tile_sizes)
def test_pad_keeps_tiles_on_multiples_of_their_size(height, width, tile_px):
    grid = TileGrid(height, width, tile_px, "pad")
    assert all(span.start % tile_px == 0 for i in range(len(grid)) for span in grid[i])


def test_the_study_s_tissue_has_625_tiles():
    assert {edge: len(TileGrid(3000, 3000, 120, edge)) for edge in EDGES} == dict.fromkeys(
        EDGES, 625
    )


def test_an_unknown_edge_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"edge='crop' is unknown: choose from pad, shift, drop"):
        TileGrid(10, 10, 5, "crop")


def corners(grid: TileGrid) -> list[tuple[int, int]]:
    return [
        (tile.rows.start, tile.columns.start) for tile in map(grid.__getitem__, range(len(grid)))
    ]


@given(sizes, sizes, tile_sizes, edges)
def test_starts_are_those_of_its_tiles_row_by_row(height, width, tile_px, edge):
    grid = TileGrid(height, width, tile_px, edge)
    rows, columns = grid.starts
    assert [(y, x) for y in rows for x in columns] == corners(grid)


@given(sizes, sizes, tile_sizes, st.sets(edges, min_size=1))
def test_a_cover_has_the_tiles_of_all_its_grids_once_in_rows(height, width, tile_px, edges):
    cover = TileCover(height, width, tile_px, edges)
    origins = [cover.origin(i) for i in range(len(cover))]
    assert origins == sorted(set(origins))
    for edge in edges:
        wanted = corners(TileGrid(height, width, tile_px, edge))
        assert set(wanted) <= set(origins)
        found = cover.index(np.array(wanted, np.int64).reshape(-1, 2))
        assert [origins[i] for i in found] == wanted


@given(sizes, sizes, tile_sizes, edges)
def test_a_cover_of_one_grid_numbers_tiles_as_the_grid_does(height, width, tile_px, edge):
    grid, cover = TileGrid(height, width, tile_px, edge), TileCover(height, width, tile_px, [edge])
    assert [cover.origin(i) for i in range(len(cover))] == corners(grid)


def test_where_grids_agree_a_tile_is_stored_once():
    """The corner of both grids at an uneven edge is stored too: a tile more, for simple numbers."""
    counts = {(64, 64): 4, (70, 64): 8, (70, 75): 16, (20, 64): 2, (20, 20): 1}
    covers = {size: TileCover(*size, 32, ["shift", "pad", "pad"]) for size in counts}
    assert {size: len(cover) for size, cover in covers.items()} == counts
    assert covers[70, 64].index(np.array([[38, 32], [64, 0]])).tolist() == [5, 6]


def test_a_tissue_without_a_tile_has_an_empty_cover():
    assert len(TileCover(20, 64, 32, ["drop"])) == 0
    assert len(TileCover(20, 64, 32, ["drop", "pad"])) == 2
