"""Instance and class masks: pieces, sizes and classes of a tissue's cells, measured in one pass.

An instance in several pieces is either one nucleus that was cut, or an id given to two nuclei. Which of
them the distance tells. Instances that touch the seam between two windows are not asked: their pieces
may meet on the other side. Every other figure counts them whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.inspection.fields import NucleusGrid
from tissueseg.inspection.runs import Pieces, pieces_of, runs_of
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore

FRAGMENT_PX = 3
NEAR_DIAMETERS = 2  # pieces closer than this are one nucleus that was cut


@dataclass(frozen=True)
class MaskFacts:
    """What one pass over a tissue's masks finds."""

    instances: int
    per_class: tuple[int, ...]  # instances by the class of most of their pixels
    unknown: int  # instances of no known class
    fragments: int  # of at most FRAGMENT_PX
    median_px: float  # area; nan without instances
    areas_px: np.ndarray  # of every instance, ascending
    split: int  # instances in pieces near each other
    reused: int  # ids of things far apart
    most_pieces: int  # of one of those
    unasked: int  # instances at seams, of which pieces are not known
    mixed: int  # instances with several classes
    stray_px: int  # pixels with a class but no instance
    grid: NucleusGrid


def measure_masks(store: TissueStore, tissue: str) -> MaskFacts:
    """Read a tissue's masks once, window by window."""
    entry = store.entry(tissue)
    table = _Table((entry.height, entry.width))
    for window in store.windows(tissue):
        instances = store.read(tissue, INSTANCES, window)
        table.add(window, instances, store.read(tissue, CLASSES, window))
    return table.facts(len(store.classes))


class _Table:
    """All pieces of a tissue, and the pixels of every instance by class."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.stray_px, self.grid = shape, 0, NucleusGrid(shape)
        self._pieces: list[np.ndarray] = []  # (7, n) int32: fields of Pieces, and whether at a seam
        self._keys: list[np.ndarray] = []  # label << 8 | class
        self._pixels: list[np.ndarray] = []

    def add(self, window: Window, instances: np.ndarray, classes: np.ndarray) -> None:
        """Take in one window."""
        runs = runs_of(instances, classes, IGNORE)
        self.stray_px += runs.stray_px
        found = pieces_of(runs, window.width)
        seam = (found.top == 0) & (window.y > 0) | (found.left == 0) & (window.x > 0)
        seam |= (found.bottom == window.height) & (window.y + window.height < self.shape[0])
        seam |= (found.right == window.width) & (window.x + window.width < self.shape[1])
        top, bottom = found.top + window.y, found.bottom + window.y
        left, right = found.left + window.x, found.right + window.x
        self.grid.add(top, left)
        rows = (found.label, found.area, top, left, bottom, right, seam)
        self._pieces.append(np.stack(rows).astype(np.int32))
        keys, place = np.unique(runs.label << 8 | runs.kind, return_inverse=True)
        self._keys.append(keys)
        self._pixels.append(np.bincount(place, runs.stop - runs.start, len(keys)))

    def facts(self, n_classes: int) -> MaskFacts:
        """Put the windows together."""
        *columns, seam = np.concatenate(self._pieces, axis=1)
        labels, place = np.unique(columns[0], return_inverse=True)
        areas = np.bincount(place, columns[1], len(labels))
        at_seam = np.bincount(place, seam, len(labels)) > 0
        several = (np.bincount(place, minlength=len(labels)) > 1) & ~at_seam
        among = Pieces(*(column[several[place]] for column in columns))
        median = float(np.median(areas)) if len(areas) else float("nan")
        typical = min(median, _holding_half(columns[1]))  # ids may be shared, pieces may be specks
        pieces, near = _told_apart(among, NEAR_DIAMETERS * diameter(typical))
        kinds, mixed = self._classes()
        return MaskFacts(
            instances=len(labels),
            per_class=tuple(np.bincount(kinds, minlength=256)[:n_classes].tolist()),
            unknown=int((kinds == IGNORE).sum()),
            fragments=int((areas <= FRAGMENT_PX).sum()),
            median_px=median,
            areas_px=np.sort(areas).astype(np.int32),
            split=int(near.sum()),
            reused=int((~near).sum()),
            most_pieces=int(pieces[~near].max(initial=0)),
            unasked=int(at_seam.sum()),
            mixed=mixed,
            stray_px=self.stray_px,
            grid=self.grid,
        )

    def _classes(self) -> tuple[np.ndarray, int]:
        """Class of most pixels of every instance, and how many have several known ones."""
        keys, place = np.unique(np.concatenate(self._keys), return_inverse=True)
        pixels = np.bincount(place, np.concatenate(self._pixels), len(keys))
        label, kind = keys >> 8, keys & 255
        order = np.lexsort((pixels, label))
        last = np.flatnonzero(np.diff(label[order], append=-1))
        known = label[kind != IGNORE]
        return kind[order][last], len(np.unique(known[1:][known[1:] == known[:-1]]))


def diameter(area: float) -> float:
    """Of a disc of this area."""
    return 2 * float(np.sqrt(area / np.pi))


def _holding_half(areas: np.ndarray) -> float:
    """The area such that pieces up to it hold half of all pixels; nan without any."""
    ordered = np.sort(areas)
    below = np.cumsum(ordered, dtype=np.int64)
    return float(ordered[np.searchsorted(below, below[-1] / 2)]) if len(areas) else float("nan")


def _told_apart(pieces: Pieces, reach_px: float) -> tuple[np.ndarray, np.ndarray]:
    """For each label: its pieces, and whether all of them lie within reach of the largest."""
    order = np.lexsort((-pieces.area, pieces.label))  # the largest of each label first
    ordered = Pieces(*(values[order] for values in pieces))
    begins = np.flatnonzero(np.diff(ordered.label, prepend=-1))
    counts = np.diff(begins, append=len(order))
    main = Pieces(*(np.repeat(values[begins], counts) for values in ordered))
    down = np.maximum(ordered.top - main.bottom, main.top - ordered.bottom)
    across = np.maximum(ordered.left - main.right, main.left - ordered.right)
    gaps = np.hypot(np.maximum(down, 0), np.maximum(across, 0))
    if not len(begins):
        return counts, np.zeros(0, bool)
    return counts, np.maximum.reduceat(gaps, begins) <= reach_px
