"""Which square windows cover a tissue, and which pixels each of them owns.

Tiles may overlap each other or reach beyond the tissue. Every pixel that the grid covers is owned by
exactly one tile, so sums over tiles (metrics, whole-tissue maps) count it once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError

EDGES = ("pad", "shift", "drop")


class Span(NamedTuple):
    """One tile along one axis, in pixels of the tissue."""

    start: int
    own_start: int  # first pixel it owns
    own_stop: int  # one past the last


class Tile(NamedTuple):
    """One tile of a tissue."""

    rows: Span
    columns: Span


class TileGrid:
    """The tiles of one tissue, computed on demand: memory does not grow with the tissue.

    Args:
        height, width: of the tissue, in pixels.
        tile_px: side of a tile.
        edge: what happens at the lower and right edge. `pad`: the last tile reaches beyond the tissue;
            `shift`: it is moved back inside and overlaps its neighbour (a tissue smaller than a tile is
            padded); `drop`: pixels that fill no whole tile are left out.
    """

    def __init__(self, height: int, width: int, tile_px: int, edge: str) -> None:
        if edge not in EDGES:
            raise ConfigError(f"edge={edge!r} is unknown: choose from {', '.join(EDGES)}.")
        self.tile_px = tile_px
        self._lengths = (height, width)
        self._edge = edge
        self.rows, self.columns = (self._count(length) for length in self._lengths)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, self.columns)
        return Tile(self._span(row, self._lengths[0]), self._span(column, self._lengths[1]))

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """First rows and first columns of its tiles."""
        counts = zip((self.rows, self.columns), self._lengths, strict=True)
        rows, columns = ([self._span(i, length).start for i in range(n)] for n, length in counts)
        return rows, columns

    def _count(self, length: int) -> int:
        whole, rest = divmod(length, self.tile_px)
        return whole + (rest > 0 and self._edge != "drop")

    def _span(self, i: int, length: int) -> Span:
        start = i * self.tile_px
        stop = min(start + self.tile_px, length)
        moved = max(length - self.tile_px, 0) if self._edge == "shift" else start
        return Span(min(start, moved), start, stop)


class TileCover:
    """The distinct tiles of several grids over one tissue, numbered row by row.

    Training and evaluation may cut the same tissue by other edge policies; where these agree, a tile
    is the same.

    Args:
        height, width: of the tissue, in pixels.
        tile_px: side of a tile.
        edges: edge policies of `TileGrid`.
    """

    def __init__(self, height: int, width: int, tile_px: int, edges: Collection[str]) -> None:
        starts = [TileGrid(height, width, tile_px, edge).starts for edge in edges]
        self._rows, self._columns = (
            np.array(sorted(set().union(*axis))) for axis in zip(*starts, strict=True)
        )

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def origin(self, index: int) -> tuple[int, int]:
        """Row and column of a tile's first pixel."""
        row, column = divmod(index, len(self._columns))
        return int(self._rows[row]), int(self._columns[column])

    def index(self, origins: np.ndarray) -> np.ndarray:
        """Numbers of tiles, given their origins (n, 2), which must be among them."""
        rows = np.searchsorted(self._rows, origins[:, 0])
        columns = np.searchsorted(self._columns, origins[:, 1])
        return rows * len(self._columns) + columns
