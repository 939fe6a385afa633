"""Tiles of a network's outputs become maps of a tissue, region by region.

Tiles are asked for so that square regions of the map are finished one after the other: what is held is
one region, what its tiles reach over to the right, and a strip along its row for the regions below. All
sizes are in one unit of the caller's choice: pixels for outputs, tokens for features.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Box
from tissueseg.instances.tiling import Span, Tiling
from tissueseg.numbers import check_whole


class _Axis:
    """Tiles and regions along one axis."""

    def __init__(self, spans: list[Span], size: int, region: int) -> None:
        self.size, self.spans = size, spans
        self.region = min(region, size)
        self.regions = -(-size // self.region)
        self.due: list[list[Span]] = [[] for _ in range(self.regions)]  # by region they begin in
        for span in spans:
            self.due[span.first // self.region].append(span)
        ends = ((span.first // self.region + 1) * self.region for span in spans)
        beyond = (span.stop - end for span, end in zip(spans, ends, strict=True))
        self.reach = max(0, *beyond)  # of the tiles that begin in a region, past its end

    def extent(self, index: int) -> tuple[int, int]:
        """Start and length of a region."""
        start = index * self.region
        return start, min(self.region, self.size - start)


class _Tile(NamedTuple):
    region: int  # that is held while it is added, in row-major order
    rows: Span
    columns: Span

    @property
    def origin(self) -> tuple[int, int]:
        return self.rows.start, self.columns.start


class Mosaic:
    """The map that tiles of a tissue make, region by region.

    At any pixel the tiles are averaged in the order they come in, as a running mean: constants stay what
    they are to the last bit, and the same tiles make the same map. Another `region_px` changes the order
    at the corners of tiles, and results by rounding.

    ```
    for origin in mosaic.tiles():
        mosaic.add(origin, network(image_at(origin)))
        for box, values in mosaic.finished():
            store(box, values)
    ```

    Two mosaics whose tilings and regions are multiples of one another ask for tiles in one order.
    """

    def __init__(self, tiling: Tiling, region_px: int, channels: int) -> None:
        """Begin with the first region.

        Args:
            tiling: of the tissue.
            region_px: side of a region. If it is a multiple of the tiling's stride, the strip that is
                held over the tissue's width has `overlap_px` rows (none where `blend="core"`), else up to
                a tile's.
            channels: of the values.

        Raises:
            ConfigError: numbers that are not whole or below 1.
        """
        check_whole("region_px", region_px, 1)
        check_whole("channels", channels, 1)
        self.tiling, self.channels = tiling, channels
        self._down, self._along = (
            _Axis(tiling.spans(axis), tiling.shape[axis], region_px) for axis in (0, 1)
        )
        self._coming = self._planned()
        self._next = next(self._coming, None)
        self._region = 0  # that is held
        self._done: deque[tuple[Box, np.ndarray]] = deque()
        down, along = self._down, self._along
        # One channel more: the weight of what has been averaged so far.
        self._held = _zeros(channels + 1, down.region + down.reach, along.region + along.reach)
        self._strip = _zeros(channels + 1, down.reach, along.regions * along.region + along.reach)

    @property
    def held(self) -> int:
        """Numbers held at the moment."""
        done = sum(values.size for _, values in self._done)
        return self._held.size + self._strip.size + done

    def __len__(self) -> int:
        """How many tiles there are."""
        return len(self._down.spans) * len(self._along.spans)

    def tiles(self) -> Iterator[tuple[int, int]]:
        """Row and column where each tile begins, in the order they are to be added."""
        return (tile.origin for tile in self._planned())

    def _planned(self) -> Iterator[_Tile]:
        """Region by region, what begins to contribute there: every tile comes as late as it may."""
        for i, rows in enumerate(self._down.due):
            for j, columns in enumerate(self._along.due):
                region = i * self._along.regions + j
                yield from (_Tile(region, row, column) for row in rows for column in columns)

    def add(self, origin: tuple[int, int], values: np.ndarray) -> None:
        """Take the outputs of the next tile.

        Args:
            origin: as `tiles` gave it.
            values: (channels, tile_px, tile_px), any floats; kept as float32.

        Raises:
            TissueDataError: another tile than the next one, or values of another shape.
        """
        tile, side = self._next, self.tiling.tile_px
        if tile is None or tuple(origin) != tile.origin:
            wanted = "no more" if tile is None else f"{tile.origin}"
            raise TissueDataError(
                f"Got the tile at {tuple(origin)}, wanted {wanted}: add tiles in the order of tiles()."
            )
        if values.shape != (self.channels, side, side):
            raise TissueDataError(
                f"The tile at {tile.origin} has values {values.shape}, wanted "
                f"{(self.channels, side, side)}: channels first, the whole tile."
            )
        self._blend(tile, values)
        self._next = next(self._coming, None)
        last = self._down.regions * self._along.regions
        while self._region < (last if self._next is None else self._next.region):
            self._finish()

    def finished(self) -> Iterator[tuple[Box, np.ndarray]]:
        """Regions that no later tile reaches, each once, row by row.

        Take them after every tile, or they pile up.

        Yields:
            Its box, and its values (channels, height, width) float32.
        """
        while self._done:
            yield self._done.popleft()

    def _blend(self, tile: _Tile, values: np.ndarray) -> None:
        """Move the running mean towards a tile's values by its share of all weight so far."""
        i, j = divmod(self._region, self._along.regions)
        rows, columns = tile.rows, tile.columns
        into = rows.after(i * self._down.region), columns.after(j * self._along.region)
        held = self._held[:, *into]
        weight = rows.weights[:, None] * columns.weights
        held[-1] += weight
        step = values[:, rows.after(rows.start), columns.after(columns.start)] - held[:-1]
        step *= weight / held[-1]
        held[:-1] += step

    def _finish(self) -> None:
        """Hand over the region that is held, and move on to the next."""
        i, j = divmod(self._region, self._along.regions)
        (y, height), (x, width) = self._down.extent(i), self._along.extent(j)
        self._done.append((Box(y, x, height, width), self._held[:-1, :height, :width].copy()))
        down, along = self._down, self._along
        self._strip[:, :, x : x + along.region] = self._held[:, down.region :, : along.region]
        self._region += 1
        if j + 1 < along.regions:
            self._held[:, :, : along.reach] = self._held[:, :, along.region :].copy()
            self._held[:, :, along.reach :] = 0
            begins = x + along.region + along.reach
            new = self._held[:, : down.reach, along.reach :]
        else:
            self._held[:] = 0
            begins, new = 0, self._held[:, : down.reach, :]
        new[:] = self._strip[:, :, begins : begins + new.shape[2]]


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)
