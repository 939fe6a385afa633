"""Instances and their classes at another scale: none broken, and as few as can be lost.

Pixels take the label at their centre. An instance that vanished by that, fell apart or was left with less
than half its length also takes every background pixel that one of its pixels touches: as pixels that
touch each other touch pixels that do, it is in one piece again. Of several such instances the one that
covers most of a pixel gets it. One still without a pixel takes the one it covers most of those whose
owner has others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tissueseg.store.runs import ClassPixels, Runs, pieces_of, runs_of
from tissueseg.store.shaping.spans import Span


class Resampled(NamedTuple):
    """Label images at another scale, and what became of their instances; ids are sorted."""

    instances: np.ndarray  # (H, W)
    classes: np.ndarray  # (H, W)
    kept: np.ndarray  # ids that had vanished, fallen apart or shrunk, and are whole by painting
    lost: np.ndarray  # ids without a pixel
    apart: np.ndarray  # ids still in more pieces than before: neighbours lie between
    hurt: np.ndarray  # all that had vanished, fallen apart or shrunk
    begin: np.ndarray  # (len(hurt), 2) row and column of the first pixel each of them touches


def resample_labels(
    instances: np.ndarray, classes: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Resample whole label images.

    Args:
        instances: (H, W) integer, 0 background.
        classes: (H, W) integer; an instance takes the class most of its pixels have, of ties the lowest.
        shape: height and width wanted.

    Returns:
        Instances and classes of that shape, ids kept by painting what they touch, and ids lost.
    """
    rows, columns = (Span.whole(*lengths) for lengths in zip(instances.shape, shape, strict=True))
    made = resample_spans(instances, classes, rows, columns)
    return made.instances, made.classes, made.kept, made.lost


def resample_spans(
    instances: np.ndarray, classes: np.ndarray, rows: Span, columns: Span
) -> Resampled:
    """Resample the label images of a window that spans these rows and columns."""
    near = np.ix_(rows.nearest(), columns.nearest())
    made, kinds = (np.ascontiguousarray(plane[near]) for plane in (instances, classes))
    runs = runs_of(instances, classes)
    shrinks = rows.shrinks or columns.shrinks
    hurt = _hurt(runs, made, rows, columns) if shrinks else np.empty(0, made.dtype)
    before = made.copy() if hurt.size else made
    begin = _paint(made, runs.only(hurt), rows, columns)
    found = ClassPixels.of(runs)
    _settle_classes(made, kinds, found, np.union1d(hurt, found.mixed()))
    lost = hurt[~np.isin(hurt, made)]
    apart = _in_pieces(runs, runs_of(made, kinds), hurt) if hurt.size else hurt
    painted = np.intersect1d(hurt, made[made != before])
    kept = np.setdiff1d(painted, np.union1d(lost, apart))
    return Resampled(made, kinds, kept, lost, apart, hurt, begin)


def _hurt(runs: Runs, made: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
    """Ids that vanished, are in more pieces than before, or have less than half their length."""
    now = runs_of(made, made)
    ids, lengths = _lengths(now)
    before, had = _lengths(runs)
    had = had[np.searchsorted(before, ids)]
    shrunk = np.zeros(len(ids), bool)
    for axis, span in enumerate((rows, columns)):
        shrunk |= 2 * (lengths[:, axis] + 1) * span.source < had[:, axis] * span.target
    found = (np.setdiff1d(before, ids), ids[shrunk], _in_pieces(runs, now, ids))
    return np.unique(np.concatenate(found))


def _lengths(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Ids, sorted, and height and width of each; (n, 2)."""
    ids, index = np.unique(runs.label, return_inverse=True)
    edges = []
    for low, high in ((runs.row, runs.row + 1), (runs.start, runs.stop)):
        first, last = np.full(len(ids), np.iinfo(int).max), np.zeros(len(ids), int)
        np.minimum.at(first, index, low)
        np.maximum.at(last, index, high)
        edges.append(last - first)
    return ids, np.stack(edges, axis=1)


def _in_pieces(before: Runs, now: Runs, ids: np.ndarray) -> np.ndarray:
    """Those of some instances that are in more pieces than before."""
    found, pieces = _pieces(now.only(ids))
    several = pieces > 1
    found, pieces = found[several], pieces[several]
    return found[pieces > _pieces(before.only(found))[1]]


def _pieces(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Ids, sorted, and the number of pieces of each."""
    return np.unique(pieces_of(runs).label, return_counts=True)


def _paint(made: np.ndarray, runs: Runs, rows: Span, columns: Span) -> np.ndarray:
    """Give instances what they touch; where the first pixel of each begins, by id."""
    length = runs.length
    row, label = np.repeat(runs.row, length), np.repeat(runs.label, length)
    column = np.arange(len(row)) - np.repeat(np.cumsum(length) - length - runs.start, length)
    (y, high), (x, wide) = rows.touched(row), columns.touched(column)
    flat = (len(row), y.shape[1] * x.shape[1])
    share = (high[:, :, None] * wide[:, None, :]).reshape(flat)
    place = (y[:, :, None] * made.shape[1] + x[:, None, :]).reshape(flat)
    ids = np.broadcast_to(label[:, None], share.shape)[share > 0]
    claims = _Claims.add_up(ids, place[share > 0], share[share > 0])
    pixels = made.reshape(-1)  # a view: it is contiguous
    claims.paint_background(pixels)
    claims.settle_rest(pixels)
    first = np.unique(label, return_index=True)[1]
    return np.stack([y[first, 0], x[first, 0]], axis=1)


class _Claims(NamedTuple):
    """How much of a pixel an instance covers; by pixel, greatest share first, then lowest id."""

    label: np.ndarray
    place: np.ndarray
    share: np.ndarray

    @classmethod
    def add_up(cls, label: np.ndarray, place: np.ndarray, share: np.ndarray) -> _Claims:
        order = np.lexsort((place, label))
        label, place, share = label[order], place[order], share[order]
        begins = np.ones(len(label), bool)
        begins[1:] = (label[1:] != label[:-1]) | (place[1:] != place[:-1])
        first = np.flatnonzero(begins)
        if first.size:
            share = np.add.reduceat(share, first)
        label, place = label[first], place[first]
        order = np.lexsort((label, -share, place))
        return cls(label[order], place[order], share[order])

    def paint_background(self, flat: np.ndarray) -> None:
        place, first = np.unique(self.place, return_index=True)
        free = flat[place] == 0
        flat[place[free]] = self.label[first[free]]

    def settle_rest(self, flat: np.ndarray) -> None:
        """Lowest id first, which no window changes."""
        rest = self.label[~np.isin(self.label, flat)]
        if not rest.size:
            return
        owners, areas = np.unique(flat, return_counts=True)
        area = dict(zip(owners.tolist(), areas.tolist(), strict=True))
        order = np.lexsort((self.place, -self.share, self.label))
        order = order[np.isin(self.label[order], rest)]
        for label, place in zip(
            self.label[order].tolist(), self.place[order].tolist(), strict=True
        ):
            owner = int(flat[place])
            if label not in area and area[owner] > 1:
                flat[place] = label
                area[owner] -= 1
                area[label] = 1


def _settle_classes(
    made: np.ndarray, kinds: np.ndarray, found: ClassPixels, ids: np.ndarray
) -> None:
    """Paint some instances with the class of most pixels they had; the others have it already."""
    if not ids.size:
        return
    labels, majority = found.majority()
    winner = majority[np.searchsorted(labels, ids)]
    inside = np.isin(made, ids)
    kinds[inside] = winner[np.searchsorted(ids, made[inside])]
