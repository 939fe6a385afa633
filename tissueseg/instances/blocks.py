"""Blocks of a tissue, and what each finds: the instances that are its own, seen whole.

Neighbouring blocks see each other's margins, so most instances near a border are seen twice. Each has
an *anchor*, one of its own pixels: the one that holds its centroid, else the nearest to that. It belongs
to the block whose core holds the anchor. Because the anchor is a pixel of the instance, the owner always
has the instance in its core, notices when its window cuts it, and looks again with a wider one: however
large or bent, an instance has exactly one owner, which sees all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Block, Box
from tissueseg.numbers import check_whole

MOST_PX = 1024
"""Margin beyond which no window grows: what is larger is no nucleus, and memory must stay bounded."""

SLACK_PX = 2
"""Half of how far two windows may disagree about a centroid and lose no instance between them."""

FIRST_STEP_PX = 8
"""Margin that blocks without one grow to."""


class Decoded(NamedTuple):
    """The instances of one block."""

    box: Box  # the window they were found in: the block's, or a wider one
    labels: np.ndarray  # (height, width) int32 of `box`: own instances 1 … cells in reading order
    cells: int  # how many
    cut: int  # of those: still cut by the widest window allowed


def blocks(shape: tuple[int, int], block_px: int, margin_px: int) -> Iterator[Block]:
    """Cut a tissue into square cores, row by row; those at its right and bottom may be smaller.

    Args:
        shape: (height, width) of the tissue.
        block_px: side of a core.
        margin_px: seen beyond it on every side: what a decoder reaches, and the widest usual nucleus.

    Raises:
        ConfigError: sides that are not whole numbers of at least 1 (block) or 0 (margin).
    """
    check_whole("block_px", block_px, 1, note="pixels")
    check_whole("margin_px", margin_px, 0, note="pixels")
    return _blocks(shape, block_px, margin_px)


def _blocks(shape: tuple[int, int], block_px: int, margin_px: int) -> Iterator[Block]:
    height, width = shape
    for y in range(0, height, block_px):
        for x in range(0, width, block_px):
            core = Box(y, x, min(block_px, height - y), min(block_px, width - x))
            yield Block(core, core.grown(margin_px, shape))


def decoded(
    block: Block,
    shape: tuple[int, int],
    decode: Callable[[Box], np.ndarray],
    most_px: int = MOST_PX,
    slack_px: int = SLACK_PX,
    rim_px: int = 1,
) -> Decoded:
    """Decode what a block sees and keep what is its own.

    Where an instance reaches from the core to a rim of the window beyond which the tissue goes on, it
    may be cut: the block is decoded again with twice the margin, until none is cut, the window shows
    the whole tissue or the margin is `most_px`. What is cut then belongs to the block if the anchor of
    what is seen does, and is counted.

    Args:
        block: from `blocks`.
        shape: (height, width) of the tissue.
        decode: labels any window: (height, width) integers, 0 background, ids in any order.
        most_px: widest margin; memory is that of a window of core + 2 · `most_px`.
        slack_px: the block claims this much beyond its core, as far as its window can be trusted.
            Decoders that scale to their window differ by a pixel between windows; without slack each of
            two blocks might leave an instance to the other. What both claim is painted once (`paint`).
        rim_px: how near its end a window is not to be trusted, ≥ 1: a decoder's reach. What comes nearer
            counts as cut.

    Raises:
        ConfigError: a rim that is none.
        TissueDataError: `decode` returned something else than labels of the window.
    """
    check_whole("rim_px", rim_px, 1, note="pixels")
    margin = max(_margin(block), rim_px - 1)  # all of the core can be trusted
    claim = block.core.grown(min(slack_px, margin - rim_px + 1), shape)
    seen = block.core.grown(margin, shape)
    while True:
        labels = _labels(decode(seen), seen)
        inside = _present(labels, [claim.within(seen)])
        cut = inside & _present(labels, _rims(seen, shape, rim_px))
        margin = _wider(margin, most_px)
        wider = block.core.grown(margin, shape)
        if wider == seen or not cut.any():
            return _kept(labels, inside, cut, claim, seen)
        seen = wider


def _wider(margin: int, most_px: int) -> int:
    return max(margin, min(max(2 * margin, FIRST_STEP_PX), most_px))


def _kept(
    labels: np.ndarray, inside: np.ndarray, cut: np.ndarray, claim: Box, seen: Box
) -> Decoded:
    """Of the instances that a window shows inside the claim, those that are the block's own."""
    owned = _owned(labels, inside, claim, seen)
    compact, cells = _in_reading_order(labels, owned)
    return Decoded(seen, compact, cells, int(np.count_nonzero(cut & owned)))


def _margin(block: Block) -> int:
    """The margin a block was made with; the tissue's edge cuts some sides, but then sees all there."""
    core, seen = block
    return max(
        core.y - seen.y,
        core.x - seen.x,
        seen.y + seen.height - core.y - core.height,
        seen.x + seen.width - core.x - core.width,
    )


def _labels(labels: np.ndarray, box: Box) -> np.ndarray:
    """Labels of a window as int32, whose ids are no more than its pixels."""
    labels = np.asarray(labels)
    if labels.shape != (box.height, box.width) or labels.dtype.kind not in "iu":
        raise TissueDataError(
            f"The instance decoder returned {labels.dtype} {labels.shape}, wanted whole numbers "
            f"({box.height}, {box.width}): return one label per pixel of the window."
        )
    if labels.min() < 0:
        raise TissueDataError(
            f"The instance decoder returned the label {labels.min()}, wanted 0 for background and ids "
            "above: clear what is not to be counted."
        )
    if labels.max() > labels.size:  # ids of a larger image: tables over them would be as large
        known, inverse = np.unique(labels, return_inverse=True)
        labels = inverse.reshape(labels.shape) + (known[0] > 0)
    return labels.astype(np.int32, copy=False)


def _present(labels: np.ndarray, parts: list[tuple[slice, slice]]) -> np.ndarray:
    """(largest id + 1,) bool: which ids occur in parts of an image, background never."""
    present = np.zeros(int(labels.max()) + 1, dtype=bool)
    for part in parts:
        present[labels[part]] = True
    present[0] = False
    return present


def _rims(seen: Box, shape: tuple[int, int], rim_px: int) -> list[tuple[slice, slice]]:
    """Outermost pixels of a window on sides where the tissue goes on."""
    rims = [
        (np.s_[:rim_px, :], seen.y > 0),
        (np.s_[:, :rim_px], seen.x > 0),
        (np.s_[-rim_px:, :], seen.y + seen.height < shape[0]),
        (np.s_[:, -rim_px:], seen.x + seen.width < shape[1]),
    ]
    return [rim for rim, goes_on in rims if goes_on]


def _around(claim: Box, seen: Box) -> list[tuple[slice, slice]]:
    """The four strips of a window that are not the claim."""
    rows, columns = claim.within(seen)
    return [
        np.s_[: rows.start, :],
        np.s_[rows.stop :, :],
        np.s_[rows, : columns.start],
        np.s_[rows, columns.stop :],
    ]


def _owned(labels: np.ndarray, inside: np.ndarray, claim: Box, seen: Box) -> np.ndarray:
    """(largest id + 1,) bool: instances whose anchor lies in the claim.

    Those that lie there with all their pixels have it there as well; only what crosses its border is
    measured.
    """
    crossing = inside & _present(labels, _around(claim, seen))
    owned = inside & ~crossing
    ids = np.flatnonzero(crossing)
    if len(ids):
        y, x = anchors(labels, ids)
        rows, columns = claim.within(seen)
        held = (rows.start <= y) & (y < rows.stop) & (columns.start <= x) & (x < columns.stop)
        owned[ids[held]] = True
    return owned


def anchors(labels: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that stand for instances.

    All in whole numbers, and relative to the instance: the same from every window that shows it whole.

    Args:
        labels: (height, width) int32.
        ids: (n,) of instances in it, ascending.

    Returns:
        Row and column of each, (n,) int64.
    """
    rank = np.full(int(labels.max()) + 1, -1, dtype=np.int32)
    rank[ids] = np.arange(len(ids), dtype=np.int32)
    ranks = rank[labels]
    y, x = np.nonzero(ranks >= 0)
    of = ranks[y, x]
    area = np.bincount(of, minlength=len(ids))
    centre_y, centre_x = (_middle(of, along, area) for along in (y, x))
    elsewhere = ranks[centre_y, centre_x] != np.arange(len(ids))
    bent = elsewhere[of]  # pixels of instances that do not hold their own centroid
    y, x, of = y[bent], x[bent], of[bent]
    distance = (y - centre_y[of]) ** 2 + (x - centre_x[of]) ** 2
    nearest = np.lexsort((distance, of))  # stable: of two as near, the first in reading order
    bends, first = np.unique(of[nearest], return_index=True)
    centre_y[bends], centre_x[bends] = y[nearest[first]], x[nearest[first]]
    return centre_y, centre_x


def _middle(of: np.ndarray, along: np.ndarray, area: np.ndarray) -> np.ndarray:
    """The pixel that holds the mean of pixel centres; sums are whole, and exact below 2⁵³."""
    total = np.bincount(of, weights=along, minlength=len(area)).astype(np.int64)
    return (2 * total + area) // (2 * area)


def _in_reading_order(labels: np.ndarray, owned: np.ndarray) -> tuple[np.ndarray, int]:
    """Owned instances only, numbered by their first pixels, and how many."""
    flat = labels.ravel()
    pixels = np.flatnonzero(owned[flat])
    first = np.full(len(owned), flat.size, dtype=np.int64)
    np.minimum.at(first, flat[pixels], pixels)
    ids = np.flatnonzero(owned)
    ids = ids[np.argsort(first[ids])]
    number = np.zeros(len(owned), dtype=np.int32)
    number[ids] = np.arange(1, len(ids) + 1, dtype=np.int32)
    return number[labels], len(ids)
