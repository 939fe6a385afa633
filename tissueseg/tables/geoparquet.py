"""Cells as GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0): outlines and the main columns.

Geometry is WKB in µm, or in pixels where the scale is not known: `units` of `tissueseg` in the metadata
says which, since a microscope has no coordinate reference system (`crs` is null).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from tissueseg.instances.cell_table import CellTable, Outlines
from tissueseg.tables.cell_columns import arrow_column, arrow_schema
from tissueseg.tables.cell_writer import CellWriter
from tissueseg.tables.parquet_cells import RowGroups
from tissueseg.tables.polygons import bounds, oriented, pieces

_MAIN = ("id", "x_px", "y_px", "x_um", "y_um", "area_px", "area_um2", "at_edge", "type")
_TYPED = ("type_name", "type_prob")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_POLYGON, _MULTIPOLYGON = 3, 6
_HEADER = np.dtype([("order", "u1"), ("kind", "<u4"), ("count", "<u4")])  # packed: 9 bytes


class GeoParquetCells(CellWriter):
    """Writes `cells.geo.parquet`, each row with its bounding box, so that readers can skip rows."""

    file_name = "cells.geo.parquet"
    outlines = True
    _groups: RowGroups | None = None

    def _open(self, hidden: Path, first: CellTable) -> None:
        self._scale = self.schema.mpp or 1.0
        self._kinds: set[str] = set()
        self._bounds: np.ndarray | None = None
        kept = {name: first.columns[name] for name in _MAIN + _TYPED if name in first.columns}
        units = {"geometry": "µm" if self.schema.mpp else "px"}
        schema = (
            arrow_schema(CellTable(kept), self.schema, units)
            .append(pa.field("geometry", pa.binary(), nullable=False))
            .append(pa.field("bbox", pa.struct([(side, pa.float64()) for side in _SIDES])))
        )
        self._groups = RowGroups(hidden, schema, plain=True)

    def _write(self, part: CellTable) -> None:
        assert self._groups is not None
        assert part.outlines is not None
        schema, outlines = self._groups.schema, part.outlines
        points = oriented(outlines) * self._scale
        boxes = bounds(points, outlines)
        self._extend(boxes, pieces(outlines))
        arrays = [
            arrow_column(part.columns[field.name], field.type)
            for field in schema
            if field.name in part.columns
        ]
        sides = [pa.array(np.ascontiguousarray(side)) for side in boxes.T]
        box = pa.StructArray.from_arrays(sides, list(_SIDES))
        self._groups.add(
            pa.table([*arrays, well_known_binary(points, outlines), box], schema=schema)
        )

    def _close(self, complete: bool) -> None:
        if self._groups is not None:
            said = self._groups.schema.metadata or {}
            self._groups.close(dict(said) | {"geo": json.dumps(self._geo())})

    def _extend(self, boxes: np.ndarray, n_pieces: np.ndarray) -> None:
        """Keep what the file says of all its geometry."""
        if len(boxes):
            both = boxes if self._bounds is None else np.vstack([boxes, self._bounds])
            self._bounds = np.hstack([both[:, :2].min(axis=0), both[:, 2:].max(axis=0)])
            kinds = (("Polygon", n_pieces == 1), ("MultiPolygon", n_pieces != 1))
            self._kinds.update(kind for kind, found in kinds if found.any())

    def _geo(self) -> dict[str, object]:
        column: dict[str, object] = {
            "encoding": "WKB",
            "geometry_types": sorted(self._kinds),
            "crs": None,
            "edges": "planar",
            "orientation": "counterclockwise",
            "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
        }
        if self._bounds is not None:
            column["bbox"] = self._bounds.tolist()
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def well_known_binary(points: np.ndarray, outlines: Outlines) -> pa.Array:
    """Little-endian WKB of every cell, a Polygon or a MultiPolygon.

    Points follow each other in the result as they do in `points`, with headers between them: where the
    headers lie is worked out first, and then both are copied whole.

    Args:
        points: (n_points, 2) float64, of the rings of `outlines`, turned the right way.
        outlines: of the cells.
    """
    lengths, exterior, n_pieces = np.diff(outlines.rings), ~outlines.holes, pieces(outlines)
    several = n_pieces != 1
    leading = np.zeros(len(lengths), np.int64)  # bytes of headers before a ring's own count
    leading[exterior] = _HEADER.itemsize
    leading[outlines.cells[:-1][several]] += _HEADER.itemsize
    sizes = leading + 4 + 16 * lengths
    ends = np.concatenate([[0], np.cumsum(sizes)])
    counts = ends[:-1] + leading  # where each ring says how many points it has

    data = np.zeros(ends[-1], np.uint8)
    header = np.zeros(len(data), bool)
    _place(data, header, counts, lengths.astype("<u4"))
    firsts = np.flatnonzero(exterior)
    n_rings = np.diff(np.append(firsts, len(lengths)))
    polygons = counts[firsts] - _HEADER.itemsize
    _place(data, header, polygons, _headers(_POLYGON, n_rings))
    starts = ends[outlines.cells]
    _place(data, header, starts[:-1][several], _headers(_MULTIPOLYGON, n_pieces[several]))
    data[~header] = np.ascontiguousarray(points, "<f8").reshape(-1).view(np.uint8)
    buffers = [None, pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(n_pieces), buffers)


def _headers(kind: int, counts: np.ndarray) -> np.ndarray:
    made = np.zeros(len(counts), _HEADER)
    made["order"], made["kind"], made["count"] = 1, kind, counts
    return made


def _place(data: np.ndarray, header: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
    """Write values byte by byte at offsets `at`, and note which bytes these are."""
    size = values.dtype.itemsize
    where = at[:, None] + np.arange(size)
    data[where] = np.ascontiguousarray(values).view(np.uint8).reshape(-1, size)
    header[where] = True
