"""What is known of cells: one row each, and their outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Outlines:
    """Polygons of cells along the edges of their pixels, so that a polygon's area is its pixels.

    Rings are closed: the last point is the first. Coordinates are pixels of the tissue, x before y, the
    first pixel's outer corner at (0, 0). Of one cell the first ring is an exterior one; those that
    follow are its holes, or further pieces with theirs.
    """

    points: np.ndarray  # (n_points, 2) float32, x and y, px
    rings: np.ndarray  # (n_rings + 1,) int64: ring i is points[rings[i]:rings[i + 1]]
    cells: np.ndarray  # (n_cells + 1,) int64: cell i has rings cells[i] … cells[i + 1]
    holes: np.ndarray  # (n_rings,) bool: False for exterior rings


@dataclass(frozen=True)
class CellTable:
    """Cells, a row each, in order of their ids.

    Every part of one tissue has the same columns in the same order, so that parts are appended.
    """

    columns: dict[str, np.ndarray]  # name -> (n,), `id` (int64, > 0) first
    outlines: Outlines | None = None  # of the same cells, in the same order
    embedding: np.ndarray | None = None  # (n, D) float32, encoder features of each cell

    def __len__(self) -> int:
        return len(self.columns["id"])


@dataclass(frozen=True)
class CellSchema:
    """What the columns of a tissue's cells mean; the same for all of its parts."""

    tissue: str
    mpp: float | None  # µm per pixel; None: not known, then there are no columns in µm
    types: tuple[tuple[int, str, str], ...]  # class id, name and "#rrggbb", background left out
    channels: tuple[str, ...] = ()  # SP channels, in order
    embedding_width: int = 0
    file_px: float = (
        1.0  # pixels of the image file per pixel, where the tissue was resampled from one
    )
    about: dict[str, str] = field(default_factory=dict)  # provenance: run, commit, decoder, date …

    def type_name(self, id: int) -> str:
        """Name of a type; `unknown` for ids that are none."""
        return next((name for known, name, _ in self.types if known == id), "unknown")


COLUMNS: Sequence[tuple[str, str]] = (
    ("id", "of the cell in the label image, from 1"),
    ("x_px", "centroid, the first pixel's outer corner at 0"),
    ("y_px", "likewise"),
    ("x_um", "centroid in µm; absent where the scale is not known, like all in µm"),
    ("y_um", "likewise"),
    ("left_px", "bounding box, first column"),
    ("top_px", "first row"),
    ("right_px", "one past the last column"),
    ("bottom_px", "one past the last row"),
    ("left_um", "likewise in µm"),
    ("top_um", "likewise"),
    ("right_um", "likewise"),
    ("bottom_um", "likewise"),
    ("area_px", "pixels"),
    ("area_um2", "in µm²"),
    ("perimeter_px", "length of the outline, estimated as scikit-image does"),
    ("perimeter_um", "likewise in µm"),
    ("eccentricity", "of the ellipse with the same second moments, 0 (circle) … 1 (line)"),
    ("at_edge", "whether it touches the edge of the tissue, and may go on beyond"),
    ("contact", "share of its outer rim that touches other cells, 0 … 1"),
    ("type", "class id of the most likely type"),
    ("type_name", "its name"),
    ("type_prob", "its probability among the types, background left out"),
    ("prob_<class>", "of each type, background left out; they add up to 1"),
    ("mean_<channel>", "SP intensity in the nucleus, as stored"),
    ("median_<channel>", "likewise"),
    ("ring_mean_<channel>", "in a ring around the nucleus that holds no other nucleus"),
    ("ring_median_<channel>", "likewise; NaN where there is no room for a ring"),
    (
        "od_hematoxylin",
        "mean optical density of the stain in the nucleus (Ruifrok & Johnston 2001)",
    ),
    ("od_eosin", "likewise"),
    ("od_residual", "likewise, of what is neither"),
)
"""Columns of a table of cells, in order; those of images that are not there are absent."""
