"""Instance and class masks: pieces, sizes and classes of a tissue's cells, measured in one pass.

An instance in several pieces is either one nucleus that was cut, or an id given to two nuclei. Which of
them the distance tells. Instances that touch the seam between two windows are not asked: their pieces
may meet on the other side. Every other figure counts them whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.inspection.fields import NucleusGrid
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.runs import ClassPixels, Pieces, pieces_of, runs_of

FRAGMENT_PX = 3
NEAR_DIAMETERS = 2  # pieces closer than this are one nucleus that was cut


@dataclass(frozen=True)
class MaskFacts:
    """What one pass over a tissue's masks finds."""

    instances: int
    per_class: tuple[int, ...]  # instances by the class of most of their pixels, the lower of ties
    unknown: int  # instances of which most is of no known class
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


def measure_masks(pixels: TissuePixels) -> MaskFacts:
    """Read a tissue's masks once, window by window.

    Raises:
        TissueDataError: ids that no store is written with.
    """
    table = _Table(pixels.shape)
    n_classes = len(pixels.store.classes)
    # strict: both are read to their end, where they are hashed
    both = zip(pixels.windows(INSTANCES), pixels.windows(CLASSES), strict=True)
    for (window, instances), (_, classes) in both:
        _check_ids(pixels, instances, classes, n_classes)
        table.add(window, instances, classes)
    return table.facts(n_classes)


def _check_ids(
    pixels: TissuePixels, instances: np.ndarray, classes: np.ndarray, n_classes: int
) -> None:
    low = int(instances.min(initial=0))
    kinds = np.flatnonzero(np.bincount(classes.ravel(), minlength=IGNORE + 1)[n_classes:IGNORE])
    if low < 0 or kinds.size:
        what = f"class {n_classes + int(kinds[0])}" if kinds.size else f"instance {low}"
        raise TissueDataError(
            f"tissue {pixels.tissue}: masks of {pixels.store.address} hold {what}, wanted instances "
            f"from 0 and classes 0 … {n_classes - 1} or {IGNORE}: the store was changed. "
            "Prepare it again."
        )


class _Table:
    """All pieces of a tissue, and the pixels of every instance by class."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape, self.stray_px, self.grid = shape, 0, NucleusGrid(shape)
        self._pieces: list[np.ndarray] = []  # (7, n) int32: fields of Pieces, and whether at a seam
        self._pixels: list[ClassPixels] = []

    def add(self, window: Window, instances: np.ndarray, classes: np.ndarray) -> None:
        """Take in one window."""
        runs = runs_of(instances, classes)
        found = pieces_of(runs)
        self._pixels.append(ClassPixels.of(runs))
        self.stray_px += int(((instances == 0) & (classes > 0) & (classes != IGNORE)).sum())
        seam = (found.top == 0) & (window.y > 0) | (found.left == 0) & (window.x > 0)
        seam |= (found.bottom == window.height) & (window.y + window.height < self.shape[0])
        seam |= (found.right == window.width) & (window.x + window.width < self.shape[1])
        top, bottom = found.top + window.y, found.bottom + window.y
        left, right = found.left + window.x, found.right + window.x
        self.grid.add(top, left)
        rows = (found.label, found.area, top, left, bottom, right, seam)
        self._pieces.append(np.stack(rows).astype(np.int32))

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
        counted = ClassPixels.joined(self._pixels)
        _, kinds = counted.majority()
        known = ClassPixels(*(column[counted.kind != IGNORE] for column in counted))
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
            mixed=len(known.mixed()),
            stray_px=self.stray_px,
            grid=self.grid,
        )


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
