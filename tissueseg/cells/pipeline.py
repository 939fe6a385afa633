"""Blocks of a tissue on their way from maps to files: decoded, painted, measured and written in order.

Workers decode and measure as they are free, but blocks are painted and written in one order, so the
result does not depend on how many workers there are. At most a few blocks per worker are under way:
maps that come faster wait on the disk, not in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np

from tissueseg.cells.block_work import BlockWork
from tissueseg.errors import TissueDataError
from tissueseg.instances.blocks import Decoded, blocks
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import CellTable
from tissueseg.instances.stitch import Canvas, Painted, Stitched, paint

_AHEAD = 3  # blocks under way per worker


class _Placed(NamedTuple):
    """A block whose cells are painted, and wait for their neighbours."""

    index: int
    box: Box  # around its cells
    first_id: int
    cells: int


class CellPipeline:
    """Takes note of maps as they are put, and hands on cells as they are measured.

    Args:
        work: what workers do.
        pool: of workers.
        workers: how many they are.
        canvas: labels of the tissue, written block by block (a zarr array).
        take: called with every part of the table of cells, in order of ids.
    """

    def __init__(
        self,
        work: BlockWork,
        pool: Executor,
        workers: int,
        canvas: Canvas,
        take: Callable[[CellTable], None],
    ) -> None:
        self._work, self._pool, self._canvas, self._take = work, pool, canvas, take
        self._most = _AHEAD * max(workers, 1)
        self._region = work.maps.region
        self._blocks = list(blocks(work.shape, self._region, work.margin_px))
        self._columns = -(-work.shape[1] // self._region)
        self._put = self._begun = self._painted = 0
        self._decoding: deque[Future[Decoded]] = deque()
        self._placed: deque[_Placed] = deque()
        self._measuring: deque[tuple[int, Future[CellTable]]] = deque()
        self.counts = Stitched(0, 0, 0, 0)

    def region_put(self) -> None:
        """One region more, in rows, has its maps on the disk: blocks may have all they want now."""
        self._put += 1
        self._begin()
        self._settle(most=self._most)

    def finish(self) -> Stitched:
        """Wait for what is under way; all regions must have been put."""
        assert self._put == len(self._blocks)
        self._settle(most=0)
        return self.counts

    def _begin(self) -> None:
        """Let workers decode blocks whose neighbours' maps are there."""
        while self._begun < len(self._blocks) and self._last_seen(self._begun) < self._put:
            block = self._blocks[self._begun]
            self._decoding.append(self._pool.submit(self._work.decode, block))
            self._begun += 1
            self._settle(most=self._most)

    def _last_seen(self, index: int) -> int:
        """The last block, in order, that a block looks into."""
        row, column = divmod(index, self._columns)
        rows = len(self._blocks) // self._columns
        return min(row + 1, rows - 1) * self._columns + min(column + 1, self._columns - 1)

    def _settle(self, most: int) -> None:
        """Go on with what is done, and wait until at most so many blocks are under way."""
        while under_way := len(self._decoding) + len(self._measuring):
            if self._measuring and self._measuring[0][1].done():
                self._hand_on()
            elif self._decoding and self._decoding[0].done():
                self._paint()
            elif under_way <= most:
                return
            elif self._measuring:
                self._hand_on()
            else:
                self._paint()

    def _paint(self) -> None:
        """Paint the instances of the block that is next."""
        found = _result(self._decoding.popleft())
        painted = paint(self._canvas, found, self.counts.cells + 1)
        placed = _Placed(self._painted, _around(painted), painted.first_id, painted.cells)
        self._placed.append(placed)
        self._painted += 1
        cells, dropped, trimmed, cut = self.counts
        self.counts = Stitched(
            cells + painted.cells,
            dropped + painted.dropped,
            trimmed + painted.trimmed,
            cut + painted.cut,
        )
        self._measure()

    def _measure(self) -> None:
        """Have the cells measured of blocks whose neighbours are all painted: they touch each other."""
        while self._placed and self._last_seen(self._placed[0].index) < self._painted:
            placed = self._placed.popleft()
            wide = self._blocks[placed.index].core.grown(self._region, self._work.shape)
            box = placed.box.grown(2 * self._work.ring_px + 1, self._work.shape).cut(wide)
            labels = np.asarray(self._canvas[box.slices])
            own = np.arange(placed.first_id, placed.first_id + placed.cells)
            job = self._pool.submit(self._work.measure, labels, own, box)
            self._measuring.append((placed.index, job))
            if len(self._decoding) + len(self._measuring) > self._most:
                self._hand_on()

    def _hand_on(self) -> None:
        index, job = self._measuring.popleft()
        self._take(_result(job))
        row, column = divmod(index, self._columns)
        if column == self._columns - 1 and row:  # no block of the rows to come looks above this one
            self._forget(row - 1)

    def _forget(self, row: int) -> None:
        for files in (self._work.maps, self._work.features):
            if files is None:
                continue
            side = files.region
            for column in range(self._columns):
                files.forget(Box(row * side, column * side, side, side))


def _around(painted: Painted) -> Box:
    """The box of a block's own cells; of none, one pixel of it."""
    rows, columns = (np.flatnonzero(painted.own.any(axis)) for axis in (1, 0))
    if not len(rows):
        return Box(painted.box.y, painted.box.x, 1, 1)
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    return Box(painted.box.y + top, painted.box.x + left, height, width)


def _result(job: Future[Any]) -> Any:
    try:
        return job.result()
    except BrokenProcessPool as error:
        raise TissueDataError(
            "a worker process was ended from outside, perhaps for want of memory: lower workers or "
            "region_px, and predict again."
        ) from error
