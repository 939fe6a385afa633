"""Predicted cells of some tissues held against the truth: every instance metric, window by window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import CellTable
from tissueseg.instances.foreground import foreground
from tissueseg.instances.hv import encode_hv
from tissueseg.instances.maps import Maps
from tissueseg.instances.stitch import Canvas
from tissueseg.metrics.boundary import (
    BoundaryF1,
    boundary_counts,
    boundary_margin_px,
    boundary_scores,
)
from tissueseg.metrics.calibration import Calibration, calibration_scores, reliability
from tissueseg.metrics.contingency import Contingency, contingency, joined, types_of
from tissueseg.metrics.detection import Detection, Points, detection_radius_px, detection_scores
from tissueseg.metrics.foreground import BinaryDice, foreground_counts, foreground_scores
from tissueseg.metrics.jaccard import AggregatedJaccard, jaccard_scores
from tissueseg.metrics.offsets import HvError, hv_counts, hv_scores
from tissueseg.metrics.panoptic import PanopticQuality, panoptic_scores
from tissueseg.modules.group import Group
from tissueseg.store import layout
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore
from tissueseg.tables.cells import Cells, measure_cells

_WHOLE_UM = 30.0  # around a region, so that the nuclei it cuts are seen whole


class FoundCells:
    """What scoring needs of a tissue's table of cells; takes its parts."""

    def __init__(self) -> None:
        self._parts: list[dict[str, np.ndarray]] = []

    def take(self, part: CellTable) -> None:
        """Keep a part's places and types."""
        kept = {k: v for k, v in part.columns.items() if k in ("id", "x_px", "y_px", "type")}
        self._parts.append(kept | {k: v for k, v in part.columns.items() if k.startswith("prob_")})

    def column(self, name: str) -> np.ndarray:
        """One value per cell."""
        return np.concatenate([part[name] for part in self._parts] or [np.zeros(0)])

    @property
    def probs(self) -> np.ndarray | None:
        """(n, n_types) of the types in order of their ids; None: no types were predicted."""
        names = [name for name in (self._parts or [{}])[0] if name.startswith("prob_")]
        return np.stack([self.column(name) for name in names], 1) if names else None


class Judged(NamedTuple):
    """The cells of a tissue's truth, by ascending id, and what became of them."""

    ids: np.ndarray  # (n,)
    types: np.ndarray  # (n,) class ids, IGNORE where unknown
    matches: np.ndarray  # (k, 2) ids of true and predicted cells of IoU > .5
    doubtful: np.ndarray  # (m,) ids of predicted cells on unknown ground, no false alarms


class CellScoring:
    """Counts tissue after tissue, and names the scores.

    Args:
        store: with the truth.
        tissues: that will be scored, in order.
        types: names of the types, in order of their ids from 1; empty: cells have none.
        mpp: µm per pixel.
        groups: name of every tissue's group, over which `…_tissue` scores are averaged.
    """

    def __init__(
        self,
        store: TissueStore,
        tissues: Sequence[str],
        types: Sequence[str],
        mpp: float,
        groups: Sequence[str],
    ) -> None:
        n = len(tissues)
        self._store, self._tissues, self._mpp = store, tuple(tissues), mpp
        self._types, self._groups = tuple(types), tuple(groups)
        self.panoptic, self.jaccard = PanopticQuality(n, len(types)), AggregatedJaccard(n)
        self.detection, self.boundary = Detection(n, len(types)), BoundaryF1(n)
        self.calibration, self.hv, self.foreground = Calibration(n), HvError(n), BinaryDice(n)
        self._has_hv = False

    def region(self, image: int, box: Box, maps: Maps) -> None:
        """Count the pixels of a region of maps."""
        shape = self._shape(image)
        wide = box.grown(int(_WHOLE_UM / self._mpp), shape)
        labels, valid = self._truth(image, wide)
        core = box.within(wide)
        counts = foreground_counts(labels[core] > 0, foreground(maps), valid[core])
        self.foreground.update(image, counts)
        if maps.hv is not None:
            self._has_hv = True
            target = encode_hv(labels)[(slice(None), *core)]
            self.hv.update(image, hv_counts(maps.hv, target, labels[core], valid[core]))

    def cells(self, image: int, canvas: Canvas, found: FoundCells) -> Judged:
        """Count the cells of a tissue.

        Args:
            image: its index.
            canvas: (H, W) predicted labels.
            found: its table of cells.
        """
        shape, parts = self._shape(image), []
        for window in self._store.windows(self._tissues[image]):
            core = Box(*window)
            wide = core.grown(boundary_margin_px(), shape)
            truth, valid = self._truth(image, wide)
            predicted = np.asarray(canvas[wide.slices])
            inner = core.within(wide)
            parts.append(contingency(truth[inner], predicted[inner], valid[inner]))
            self.boundary.update(image, boundary_counts(truth, predicted, valid, inner))
        table = joined(parts)
        true = measure_cells(self._store, self._tissues[image])
        doubtful = table.predicted_ids[table.doubtful]
        self._count_types(image, table, true, found)
        centroids = true.centroid_px + 0.5  # the first pixel's outer corner at 0, as in the table
        self.jaccard.update(image, table)
        ids = found.column("id")
        places = np.stack([found.column("y_px"), found.column("x_px")], 1)
        types = found.column("type") if self._types else None
        self.detection.update(
            image,
            Points(centroids, true.classes if self._types else None),
            Points(places, types, np.isin(ids, doubtful)),
            detection_radius_px(self._mpp),
        )
        rows = table.matches
        matches = (table.truth_ids[rows.truth], table.predicted_ids[rows.predicted])
        return Judged(true.ids, true.classes, np.stack(matches, 1), doubtful)

    def join(self, group: Group) -> None:
        """Make ready to add up what several processes counted, each of other tissues.

        All of them must then ask for scores and tables, in the same order.
        """
        self._has_hv = group.highest(int(self._has_hv)) > 0

    def scores(self) -> dict[str, float]:
        """All of them, the averaging in their names."""
        return self._named(slice(None), self._groups)

    def by_tissue(self) -> dict[str, dict[str, float]]:
        """The same of every tissue by itself: what intervals are made of."""
        return {t: self._named(slice(i, i + 1), None) for i, t in enumerate(self._tissues)}

    def tables(self) -> dict[str, Any]:
        """Detected against true types, and how far their probabilities can be trusted."""
        types = self.detection.compute().numpy().sum(0).tolist()
        names = ["nothing", *(self._types or ()), "unknown" if self._types else "nucleus"]
        found: dict[str, Any] = {"type_names": names, "types": types}
        if not self._types:
            return found
        bins = reliability(self.calibration.compute().numpy().sum(0))
        rows = {name: np.asarray(value).tolist() for name, value in bins._asdict().items()}
        return found | {"reliability": rows}

    def _named(self, images: slice, groups: Sequence[str] | None) -> dict[str, float]:
        def counted(metric: Any) -> NDArray[Any]:
            return metric.compute().numpy()[images]

        named: dict[str, float] = {}
        named |= panoptic_scores(counted(self.panoptic), self._types, groups)
        named |= jaccard_scores(counted(self.jaccard))
        named |= detection_scores(counted(self.detection), self._types)
        named |= boundary_scores(counted(self.boundary))
        named |= foreground_scores(counted(self.foreground))
        if self._has_hv:
            named |= hv_scores(counted(self.hv))
        if self._types:
            named |= calibration_scores(counted(self.calibration))
        return named

    def _count_types(self, image: int, table: Contingency, true: Cells, found: FoundCells) -> None:
        if not self._types:
            self.panoptic.update(image, table)
            return
        truth = types_of(table.truth_ids, true.ids, true.classes)
        predicted = types_of(table.predicted_ids, found.column("id"), found.column("type"))
        self.panoptic.update(image, table, truth, predicted)
        if (probs := found.probs) is None:
            return
        matches = table.matches
        rows = np.searchsorted(found.column("id"), table.predicted_ids[matches.predicted])
        self.calibration.update(image, probs[rows], truth[matches.truth])

    def _truth(self, image: int, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a box, and where they are known."""
        tissue, window = self._tissues[image], Window(*box)
        labels = self._store.read(tissue, layout.INSTANCES, window)
        classes = self._store.read(tissue, layout.CLASSES, window)
        return labels, (classes != IGNORE) | (labels > 0)

    def _shape(self, image: int) -> tuple[int, int]:
        entry = self._store.entry(self._tissues[image])
        return entry.height, entry.width


def groups_of(store: TissueStore, tissues: Sequence[str], pattern: str | None) -> list[str]:
    """The group of every tissue: what a pattern's first group finds in its name; None: its patient.

    Raises:
        ConfigError: no pattern, or one that does not fit a tissue's name.
    """
    if pattern is None:
        return [store.entry(tissue).patient for tissue in tissues]
    try:
        found = [re.search(pattern, tissue) for tissue in tissues]
    except re.error as error:
        raise ConfigError(f"groups={pattern} is no pattern: {error}.") from error
    named = [match[1] if match and match.re.groups else None for match in found]
    if None in named:
        tissue = tissues[named.index(None)]
        raise ConfigError(
            f"groups={pattern} finds no group in {tissue}: put round brackets around what names it, such "
            "as '_([A-Za-z-]+)$', or null for patients."
        )
    return [str(name) for name in named]
