"""Cells of a tissue counted part by part, for its page: types, sizes, and where they are densest.

Nothing is kept of a cell but the byte that says its type, which the label image is painted by.
"""

from __future__ import annotations

import numpy as np

from tissueseg.inspection.fields import NucleusGrid
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.reporting.tissue_summary import CellCounts, Histogram, TypeCount
from tissueseg.store.planes import Window

BINS = 40
LARGEST_PX = 2**16  # areas up to here are counted one by one
_SHOWN = 0.995  # of the cells, whose areas the histogram spans
_PROB_BINS = 20


class CellTally:
    """Takes in a tissue's cells.

    Args:
        schema: of its cells.
        shape: height and width of the tissue, px.
    """

    def __init__(self, schema: CellSchema, shape: tuple[int, int]) -> None:
        self._schema, self._shape = schema, shape
        self._grid = NucleusGrid(shape)
        self._types = np.zeros(1024, np.uint8)
        self._highest = 0
        self._counts = np.zeros(256, np.int64)
        self._areas = np.zeros(LARGEST_PX + 2, np.int64)
        self._probs = np.zeros(_PROB_BINS, np.int64)
        self._at_edge = 0

    def add(self, part: CellTable) -> None:
        """Take in some cells, each once, in any order."""
        columns = part.columns
        if not len(part):
            return
        ids = columns["id"]
        types = np.asarray(columns.get("type", np.ones(len(part))), np.uint8)
        self._reserve(int(ids.max()))
        self._types[ids] = types
        self._counts += np.bincount(types, minlength=256)
        areas = np.clip(columns["area_px"], 0, LARGEST_PX + 1).astype(np.int64)
        self._areas += np.bincount(areas, minlength=len(self._areas))
        self._at_edge += int(np.count_nonzero(columns.get("at_edge", 0)))
        if "type_prob" in columns:
            probs = columns["type_prob"][np.isfinite(columns["type_prob"])]
            self._probs += np.histogram(probs, _PROB_BINS, (0.0, 1.0))[0]
        rows, places = (columns[name].astype(np.int64) for name in ("y_px", "x_px"))
        height, width = self._shape
        self._grid.add(np.clip(rows, 0, height - 1), np.clip(places, 0, width - 1))

    @property
    def types_of_ids(self) -> np.ndarray:
        """(highest id + 1,) uint8: class id of every cell so far by its id."""
        return self._types[: self._highest + 1]

    def counts(self) -> CellCounts:
        """What was counted so far; areas in µm² where the scale is known."""
        types = [TypeCount(name, color, int(self._counts[i])) for i, name, color in self._known()]
        typed = bool(self._probs.any())
        edges = tuple(i / _PROB_BINS for i in range(_PROB_BINS + 1))
        probs = Histogram(edges, tuple(self._probs.tolist())) if typed else None
        return CellCounts(tuple(types), self._at_edge, self._area_histogram(), probs)

    def densest(self, count: int = 3, side_px: int = 512) -> list[Window]:
        """Places with the most cells, apart from each other; none where one would be all there is."""
        if max(self._shape) <= side_px:
            return []
        return self._grid.densest(count, side_px, fewest=1)

    def _known(self) -> list[tuple[int, str, str]]:
        """Types of the schema, and `unknown` for cells of no such type."""
        known = list(self._schema.types)
        others = self._counts.copy()
        others[[i for i, _, _ in known]] = 0
        unknown = ((int(i), f"unknown ({i})", "#999999") for i in np.flatnonzero(others))
        return [*known, *unknown]

    def _area_histogram(self) -> Histogram | None:
        """Linear bins of whole pixels, so that no bin holds more sizes than its neighbour."""
        total = int(self._areas.sum())
        if not total:
            return None
        most = int(np.searchsorted(np.cumsum(self._areas), _SHOWN * total))
        step = max(1, -(-(most + 1) // BINS))
        bins = -(-(most + 1) // step)
        inside = np.zeros(bins * step, np.int64)
        part = self._areas[: bins * step]
        inside[: len(part)] = part
        counts = inside.reshape(bins, step).sum(1)
        pixel = (self._schema.mpp or 1.0) ** 2
        edges = tuple(float(i * step * pixel) for i in range(bins + 1))
        unit = "px" if self._schema.mpp is None else "µm²"
        return Histogram(edges, tuple(counts.tolist()), total - int(counts.sum()), unit)

    def _reserve(self, highest: int) -> None:
        """Room for types up to an id, doubled when it runs out."""
        self._highest = max(self._highest, highest)
        if highest >= len(self._types):
            grown = np.zeros(max(highest + 1, 2 * len(self._types)), np.uint8)
            grown[: len(self._types)] = self._types
            self._types = grown
