"""Cells as GeoJSON for QuPath 0.5 and later: a polygon each, with type, colour and measurements.

Coordinates are pixels at full resolution, as QuPath wants them: of the image file, where the tissue was
resampled from one (`file_px`), else of the tissue. It reads `objectType`,
`classification` and `measurements`, an object of numbers in which NaN and null stop the import
(https://github.com/qupath/qupath/issues/1293): what is not known is left out. Arrow prints the
coordinates, because a JSON library needs a Python object for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from tissueseg.instances.cell_table import CellTable, Outlines
from tissueseg.tables.cell_columns import described, unit
from tissueseg.tables.cell_writer import CellWriter
from tissueseg.tables.polygons import oriented, pieces

_NAMESPACE = uuid5(NAMESPACE_URL, "tissueseg")
_MEASURED = ("area_", "perimeter_", "eccentricity", "contact", "type_prob", "prob_", "mean_", "od_")


class GeoJsonCells(CellWriter):
    """Writes `cells.geojson`, a FeatureCollection; ids are the same whenever the tissue's are."""

    file_name = "cells.geojson"
    outlines = True
    _stream = None

    def _open(self, hidden: Path, first: CellTable) -> None:
        self._stream = hidden.open("w", encoding="utf-8", newline="\n")
        about = _json(described(self.schema) | {"unit": "px"})
        self._stream.write(f'{{"type":"FeatureCollection","tissueseg":{about},"features":[\n')
        self._classifications = {
            id: f'"classification":{_json({"name": name, "color": _rgb(color)})},'
            for id, name, color in self.schema.types
        }

    def _write(self, part: CellTable) -> None:
        if not len(part) or self._stream is None:
            return
        assert part.outlines is not None
        self._stream.write(",\n" if self.rows else "")
        self._stream.write(",\n".join(self._features(part, part.outlines)))

    def _close(self, complete: bool) -> None:
        if self._stream is not None:
            self._stream.write("\n]}\n")
            self._stream.close()

    def _features(self, part: CellTable, outlines: Outlines) -> Iterator[str]:
        ids = part.columns["id"].tolist()
        types = part.columns.get("type", np.zeros(len(ids), np.int64)).tolist()
        placed = replace(outlines, points=outlines.points * np.float32(self.schema.file_px))
        rows = zip(ids, types, geometries(placed), measurements(part), strict=True)
        for id, type, geometry, measured in rows:
            yield (
                f'{{"type":"Feature","id":"{uuid5(_NAMESPACE, f"{self.schema.tissue}:{id}")}",'
                f'"geometry":{geometry},"properties":{{"objectType":"cell","name":"{id}",'
                f'{self._classifications.get(type, "")}"measurements":{{{measured}}}}}}}'
            )


def geometries(outlines: Outlines) -> Iterator[str]:
    """A Polygon or, of cells in several pieces, a MultiPolygon each, as JSON."""
    rings = _ring_texts(oriented(outlines), outlines.rings)
    cells, holes = outlines.cells.tolist(), outlines.holes.tolist()
    for i, n_pieces in enumerate(pieces(outlines).tolist()):
        first, end = cells[i], cells[i + 1]
        if n_pieces == 1:
            yield f'{{"type":"Polygon","coordinates":[{",".join(rings[first:end])}]}}'
        else:
            between = (("," if holes[r] else "],[") + rings[r] for r in range(first + 1, end))
            polygons = rings[first] + "".join(between)
            yield f'{{"type":"MultiPolygon","coordinates":[[{polygons}]]}}'


def _ring_texts(points: np.ndarray, rings: np.ndarray) -> list[str]:
    """Every ring as JSON, with two decimals at most; Arrow prints whole numbers without any."""
    rounded = np.round(points, 2) + 0.0  # no -0.0
    x, y = (pa.array(np.ascontiguousarray(side)).cast(pa.string()) for side in rounded.T)
    places = pc.call_function("binary_join_element_wise", [x, y, ","])
    listed = pa.ListArray.from_arrays(rings.astype(np.int32), places)
    joined = pc.call_function("binary_join", [listed, "],["])
    return [f"[[{text}]]" for text in joined.to_pylist()]


def measurements(part: CellTable) -> Iterator[str]:
    """The chosen columns of every cell, `"name":number` with commas between; unknown ones left out."""
    names = [n for n in part.columns if n.startswith(_MEASURED) and not _doubled(n, part)]
    values = np.empty((len(part), len(names)))
    for i, name in enumerate(names):
        values[:, i] = part.columns[name]
    known = np.isfinite(values)
    forms = np.array([_json(name).replace("%", "%%") + ":%.6g" for name in names], object)
    all_known = ",".join(forms)
    for row, here in zip(values, known, strict=True):
        if here.all():
            yield all_known % tuple(row.tolist())
        else:
            yield ",".join(forms[here]) % tuple(row[here].tolist())


def _doubled(name: str, part: CellTable) -> bool:
    """Whether a column in pixels stands in µm too."""
    stem = name.removesuffix("_px")
    return unit(name) == "px" and any(stem + end in part.columns for end in ("_um", "_um2"))


def _rgb(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
