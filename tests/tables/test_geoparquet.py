"""Cells as GeoParquet, with a reader of WKB that shares nothing with the writer."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cells_made import ODD, PLAIN, SCHEMA, SHAPES, cells, outlines
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.tables.geojson import geometries
from tissueseg.tables.geoparquet import GeoParquetCells, well_known_binary
from tissueseg.tables.polygons import oriented


def read_wkb(data: bytes, at: int = 0) -> tuple[dict[str, Any], int]:
    """Geometry as GeoJSON has it, and where the next begins."""
    order, kind, count = struct.unpack_from("<BII", data, at)
    assert order == 1
    at += 9
    parts: list[Any] = []
    for _ in range(count):
        if kind == 6:
            inner, at = read_wkb(data, at)
            parts.append(inner["coordinates"])
        else:
            (n,) = struct.unpack_from("<I", data, at)
            flat = struct.unpack_from(f"<{2 * n}d", data, at + 4)
            parts.append([list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)])
            at += 4 + 16 * n
    return {"type": {3: "Polygon", 6: "MultiPolygon"}[kind], "coordinates": parts}, at


cell = st.builds(
    lambda shape, x, y: shape(x, y),
    st.sampled_from(SHAPES),
    st.integers(0, 10**5),
    st.integers(0, 10**5),
)


@given(st.lists(cell, max_size=6))
@settings(max_examples=30, deadline=None)
def test_binary_geometry_is_that_of_the_geojson(shapes: list) -> None:
    made = outlines(shapes)
    found = well_known_binary(oriented(made), made)
    found.validate(full=True)
    read = [read_wkb(data) for data in found.to_pylist()]
    assert [geometry for geometry, _ in read] == [json.loads(text) for text in geometries(made)]
    assert [end for _, end in read] == [len(data) for data in found.to_pylist()]


def written(path: Path, schema: CellSchema, *parts: CellTable) -> tuple[pa.Table, dict[str, Any]]:
    with GeoParquetCells(path / "cells.geo.parquet", schema) as writer:
        for part in parts:
            writer.add(part)
    raw = parquet.ParquetFile(writer.path).metadata.metadata
    table = parquet.read_table(writer.path)
    assert table.schema.metadata[b"geo"] == raw[b"geo"]  # for readers of either
    return table, json.loads(raw[b"geo"])


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN, ODD])
def test_metadata_says_what_the_geometry_is(schema: CellSchema, tmp_path: Path) -> None:
    table, geo = written(tmp_path, schema, cells(4, schema), cells(3, schema, first=90))
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert (column["encoding"], column["crs"]) == ("WKB", None)
    assert column["geometry_types"] == ["MultiPolygon", "Polygon"]
    assert column["orientation"] == "counterclockwise"
    assert table.schema.field("geometry").type == pa.binary()
    read = [read_wkb(data)[0] for data in table["geometry"].to_pylist()]
    boxes = []
    for geometry in read:
        polygons = geometry["coordinates"]
        polygons = [polygons] if geometry["type"] == "Polygon" else polygons
        points = np.concatenate([ring for polygon in polygons for ring in polygon])
        boxes.append([*points.min(axis=0), *points.max(axis=0)])
    assert [list(box.values()) for box in table["bbox"].to_pylist()] == boxes
    assert list(table["bbox"].to_pylist()[0]) == list(column["covering"]["bbox"])
    low, high = np.array(boxes)[:, :2].min(axis=0), np.array(boxes)[:, 2:].max(axis=0)
    assert column["bbox"] == [*low, *high]
    said = json.loads(table.schema.metadata[b"tissueseg"])
    assert said["units"]["geometry"] == ("µm" if schema.mpp else "px")


def test_geometry_is_in_micrometres_where_the_scale_is_known(tmp_path: Path) -> None:
    part = cells(1)
    for name, schema, side in (("um", SCHEMA, 0.5), ("px", PLAIN, 1)):
        table, _ = written(tmp_path / name, schema, cells(1, schema))
        geometry, _ = read_wkb(table["geometry"][0].as_py())
        width = np.ptp(np.array(geometry["coordinates"][0]), axis=0)
        assert width.tolist() == [side, side]
    assert table["id"].to_pylist() == part.columns["id"].tolist()


def test_main_columns_come_along(tmp_path: Path) -> None:
    part = cells(5)
    table, geo = written(tmp_path, SCHEMA, part)
    assert {"id", "x_um", "area_um2", "type_name", "type_prob"} <= set(table.column_names)
    for name in set(table.column_names) - {"geometry", "bbox"}:
        np.testing.assert_array_equal(table[name].to_pandas(), part.columns[name])
    assert set(geo["columns"]) == {"geometry"}


def test_a_tissue_without_cells_names_no_geometry(tmp_path: Path) -> None:
    for name, parts in (("none", []), ("empty", [cells(0)])):
        table, geo = written(tmp_path / name, SCHEMA, *parts)
        assert table.num_rows == 0
        assert geo["columns"]["geometry"]["geometry_types"] == []
        assert "bbox" not in geo["columns"]["geometry"]


def test_only_the_kinds_that_occur_are_named(tmp_path: Path) -> None:
    _, geo = written(tmp_path, SCHEMA, cells(4, corners=9))
    assert geo["columns"]["geometry"]["geometry_types"] == ["Polygon"]
