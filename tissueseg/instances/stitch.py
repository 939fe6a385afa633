"""Blocks of a tissue, decoded one by one, become one label image.

Every instance has one owner (see `blocks`), so stitching is painting what each block owns, in the
order of the blocks: no graph of overlaps, no image in memory, the same result however many workers
decode. What two blocks claim because their windows disagree is settled by the pixels already painted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tissueseg.errors import TissueDataError
from tissueseg.instances.blocks import MOST_PX, SLACK_PX, Decoded, anchors, blocks, decoded
from tissueseg.instances.boxes import Box


class Canvas(Protocol):
    """Where labels are painted: a zarr or numpy array of whole numbers, 0 where it is free."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of the tissue."""
        ...

    @property
    def dtype(self) -> Any:
        """Of the ids."""
        ...

    def __getitem__(self, slices: Any, /) -> Any: ...
    def __setitem__(self, slices: Any, values: Any, /) -> None: ...


class Painted(NamedTuple):
    """What painting a block's instances came to."""

    box: Box  # the window the block saw
    labels: (
        np.ndarray
    )  # (height, width) of `box`, as the canvas: blocks that follow are not there yet
    first_id: int  # its cells have the ids first_id … first_id + cells - 1
    cells: int
    dropped: int  # instances that were there already
    trimmed: int  # cells that lost pixels to earlier ones
    cut: int  # instances its widest window cut, dropped ones included

    @property
    def own(self) -> np.ndarray:
        """The labels of the block's own cells only."""
        mine = (self.labels >= self.first_id) & (self.labels < self.first_id + self.cells)
        return np.where(mine, self.labels, 0)


class Stitched(NamedTuple):
    """What became of a tissue; see `Painted`."""

    cells: int
    dropped: int
    trimmed: int
    cut: int


def paint(canvas: Canvas, block: Decoded, first_id: int) -> Painted:
    """Paint a block's instances where the canvas is free.

    First come, first served. An instance whose anchor, or more than half of whose pixels, are taken is
    one that an earlier block claimed too, perhaps in a smaller version, and is dropped. Of what falls
    apart because pixels were taken from it, the largest piece (4-connected; of two as large, the first
    in reading order) is kept.

    Args:
        canvas: of the whole tissue; changed.
        block: what was decoded.
        first_id: of the first cell painted, > 0; those that follow have no gaps.

    Raises:
        TissueDataError: ids that the canvas cannot hold.
    """
    window = np.asarray(canvas[block.box.slices])
    painting = np.where(window == 0, block.labels, 0)
    area, left = (
        np.bincount(of.ravel(), minlength=block.cells + 1) for of in (block.labels, painting)
    )
    keep = 2 * left >= area
    keep[0] = False
    keep[_covered(block.labels, window, np.flatnonzero(keep & (left < area)))] = False
    trimmed = keep & (left < area)
    if trimmed.any():
        _clear_crumbs(painting, trimmed)
    cells = int(np.count_nonzero(keep))
    _check_ids(canvas, first_id + cells - 1)
    ids = np.zeros(block.cells + 1, dtype=window.dtype)
    ids[keep] = np.arange(first_id, first_id + cells)
    window = window + ids[painting]
    if cells:
        canvas[block.box.slices] = window
    dropped, trims = block.cells - cells, int(np.count_nonzero(trimmed))
    return Painted(block.box, window, first_id, cells, dropped, trims, block.cut)


def painted(
    shape: tuple[int, int],
    decode: Callable[[Box], np.ndarray],
    canvas: Canvas,
    block_px: int,
    margin_px: int,
    most_px: int = MOST_PX,
    slack_px: int = SLACK_PX,
    rim_px: int = 1,
    map: Callable[..., Iterable[Decoded]] = map,
) -> Iterator[Painted]:
    """`stitch`, block by block: nothing is done but what is asked for."""
    if canvas.shape != tuple(shape) or np.dtype(canvas.dtype).kind not in "iu":
        raise TissueDataError(
            f"The canvas is {canvas.dtype} {canvas.shape}, wanted whole numbers {tuple(shape)}: make "
            "one of the tissue's height and width, uint32."
        )
    look = {"most_px": most_px, "slack_px": slack_px, "rim_px": rim_px}
    find = partial(decoded, shape=shape, decode=decode, **look)
    return _painted(canvas, map(find, blocks(shape, block_px, margin_px)))


def _painted(canvas: Canvas, found: Iterable[Decoded]) -> Iterator[Painted]:
    first_id = 1
    for block in found:
        result = paint(canvas, block, first_id)
        first_id += result.cells
        yield result


def stitch(
    shape: tuple[int, int],
    decode: Callable[[Box], np.ndarray],
    canvas: Canvas,
    block_px: int,
    margin_px: int,
    most_px: int = MOST_PX,
    slack_px: int = SLACK_PX,
    rim_px: int = 1,
    map: Callable[..., Iterable[Decoded]] = map,
) -> Stitched:
    """Decode a tissue block by block into one label image.

    Up to ids the result equals one pass over the whole tissue if the decoder is local: if all windows
    label alike every connected instance that they show whole, `rim_px` or more from where they end within
    the tissue. Instances may have any size and shape, up to `most_px` beyond a core.

    Where windows disagree, a cell is the version of one of them, less what was painted before. None is
    lost if its anchors differ by up to 2 · `slack_px` along rows and columns. None is painted twice if
    of two versions the later has its anchor, or more than half of its pixels, on the earlier.

    Args:
        shape: (height, width) of the tissue.
        decode: labels any window of it; sent to workers, if `map` has some.
        canvas: where the labels go, 0 throughout; uint32 holds every tissue.
        block_px: side of a block's core.
        margin_px: what blocks see beyond; windows rarely grow if a nucleus and `rim_px` fit in.
        most_px: widest margin a block is given to see an instance whole; see `decoded`.
        slack_px: by how much windows may disagree; see `decoded`.
        rim_px: how far ends of windows are not to be trusted: the decoder's reach.
        map: calls a function on every block, results in order: `map`, or `in_turn` of a pool.

    Raises:
        ConfigError: sizes that are none.
        TissueDataError: a canvas of another shape or too small for the ids, labels that are none.
    """
    parts = painted(shape, decode, canvas, block_px, margin_px, most_px, slack_px, rim_px, map)
    counts = [(part.cells, part.dropped, part.trimmed, part.cut) for part in parts]
    return Stitched(*(sum(kind) for kind in zip((0, 0, 0, 0), *counts, strict=True)))


def in_turn(pool: Executor, ahead: int) -> Callable[..., Iterator[Any]]:
    """A `map` by a pool that never has more than `ahead` results waiting or under way.

    `Executor.map` starts everything at once, so that results pile up when their taker is slower.
    """

    def mapped(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        try:
            for item in items:
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    return mapped


def _covered(labels: np.ndarray, window: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Those of some instances whose anchors are painted already."""
    return ids[window[anchors(labels, ids)] > 0] if len(ids) else ids


def _check_ids(canvas: Canvas, last_id: int) -> None:
    largest = np.iinfo(canvas.dtype).max
    if last_id > largest:
        raise TissueDataError(
            f"The canvas is {canvas.dtype} and holds ids up to {largest}, wanted {last_id}: make it "
            "uint32."
        )


def _clear_crumbs(painting: np.ndarray, trimmed: np.ndarray) -> None:
    """Set all but the largest piece of every trimmed instance to 0, in place."""
    y, x = np.nonzero(trimmed[painting])
    ids = painting[y, x]
    piece, count = _pieces(ids, y, x)
    size = np.bincount(piece, minlength=count)
    of, first = np.zeros(count, dtype=np.int64), np.full(count, len(ids))
    of[piece] = ids
    np.minimum.at(first, piece, np.arange(len(ids)))
    order = np.lexsort((first, -size, of))
    _, best = np.unique(of[order], return_index=True)
    crumb = np.ones(count, dtype=bool)
    crumb[order[best]] = False
    painting[y[crumb[piece]], x[crumb[piece]]] = 0


def _pieces(ids: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, int]:
    """Which connected piece of which instance each pixel belongs to, and how many pieces there are.

    Components of a graph between neighbours of one id: the pixels of trimmed instances are few, and
    many instances are done at once though they may touch.
    """
    y, x = y - y.min(), x - x.min()
    index = np.full((y.max() + 2, x.max() + 2), -1, dtype=np.int32)  # one more: nothing wraps
    index[y, x] = np.arange(len(ids))
    right, below = index[y, x + 1], index[y + 1, x]
    ends = []
    for other in (right, below):
        here = np.flatnonzero((other >= 0) & (ids[other] == ids))
        ends.append((here, other[here]))
    rows, columns = (np.concatenate(side) for side in zip(*ends, strict=True))
    links = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(ids),) * 2)
    count, piece = connected_components(links, directed=False)
    return piece, count
