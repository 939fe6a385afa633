"""Cells as GeoJSON, read back with json: what QuPath needs is there, and nothing that stops it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from cells_made import ODD, ODD_NAMES, PLAIN, SCHEMA, cells, outlines, with_hole

from tissueseg.instances.cell_table import CellSchema, CellTable, Outlines
from tissueseg.tables.geojson import GeoJsonCells, geometries, measurements


def read(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def written(path: Path, schema: CellSchema, *parts: CellTable) -> dict[str, Any]:
    with GeoJsonCells(path / "cells.geojson", schema) as writer:
        for part in parts:
            writer.add(part)
    return read(writer.path)


def rings_of(geometry: dict[str, Any]) -> list[list[list[float]]]:
    """Rings in order, exterior ones first in their polygon."""
    found = geometry["coordinates"]
    polygons = [found] if geometry["type"] == "Polygon" else found
    return [ring for polygon in polygons for ring in polygon]


def area(ring: list[list[float]]) -> float:
    x, y = np.array(ring, float).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN, ODD])
def test_features_have_what_qupath_reads(schema: CellSchema, tmp_path: Path) -> None:
    parts = [cells(7, schema), cells(0, schema), cells(4, schema, first=200)]
    found = written(tmp_path, schema, *parts)
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == 11
    known = {name: color for _, name, color in schema.types}
    names = [name for part in parts for name in part.columns["type_name"].tolist()]
    for feature, name in zip(found["features"], names, strict=True):
        assert feature["type"] == "Feature"
        assert UUID(feature["id"]).version == 5
        properties = feature["properties"]
        assert properties["objectType"] == "cell"
        assert ("classification" in properties) == (name in known)
        if name in known:
            red, green, blue = bytes.fromhex(known[name][1:])
            assert properties["classification"] == {"name": name, "color": [red, green, blue]}
    assert len({feature["id"] for feature in found["features"]}) == 11


def test_pieces_holes_and_single_pixels_are_valid_geometry(tmp_path: Path) -> None:
    features = written(tmp_path, SCHEMA, cells(6))["features"]
    geometry = [feature["geometry"] for feature in features]
    assert [g["type"] for g in geometry] == ["Polygon", "Polygon", "MultiPolygon"] * 2
    rings = [rings_of(g) for g in geometry]
    assert [len(r) for r in rings] == [1, 2, 3] * 2
    assert all(ring[0] == ring[-1] and len(ring) >= 4 for r in rings for ring in r)
    assert [[area(ring) for ring in r] for r in rings] == [[1], [25, -4], [25, -4, 4]] * 2
    assert [len(polygon) for polygon in geometry[2]["coordinates"]] == [2, 1]
    assert all(type(v) is int for r in rings for ring in r for point in ring for v in point)


def test_ids_depend_on_tissue_and_cell_only(tmp_path: Path) -> None:
    def ids(name: str, schema: CellSchema, seed: int) -> list[str]:
        found = written(tmp_path / name, schema, cells(5, schema, seed=seed))["features"]
        return [feature["id"] for feature in found]

    first = ids("a", SCHEMA, 0)
    assert ids("b", SCHEMA, 7) == first
    assert not set(ids("c", PLAIN, 0)) & set(first)


def test_measurements_are_numbers_and_unknown_ones_are_left_out() -> None:
    part = cells(5, ODD)
    part.columns["mean_CD3, ε"][1] = np.inf
    part.columns["od_eosin"][:] = np.nan
    found = [json.loads(f"{{{text}}}") for text in measurements(part)]
    everything = set(found[0])
    assert {
        "area_um2",
        "perimeter_um",
        "type_prob",
        "mean_CD3, ε",
        f"prob_{ODD_NAMES[3]}",
    } <= everything
    assert not everything & {"area_px", "perimeter_px", "od_eosin", "ring_mean_CD3, ε", "id"}
    assert everything - set(found[1]) == {"mean_CD3, ε"}
    for row, values in enumerate(found):
        for name, value in values.items():
            assert value == pytest.approx(float(part.columns[name][row]), rel=1e-5)


def test_without_scale_measurements_are_in_pixels() -> None:
    (first, *_) = (json.loads(f"{{{text}}}") for text in measurements(cells(2, PLAIN)))
    assert {"area_px", "perimeter_px"} <= set(first)


def test_cells_of_which_nothing_is_measured_stand_there_all_the_same(tmp_path: Path) -> None:
    part = CellTable({"id": np.array([3, 8])}, outlines([with_hole(0, 0)] * 2))
    features = written(tmp_path, PLAIN, part)["features"]
    assert [feature["properties"]["name"] for feature in features] == ["3", "8"]
    assert [feature["properties"]["measurements"] for feature in features] == [{}, {}]


def test_fractions_have_two_decimals_and_whole_numbers_none() -> None:
    points = np.array([[0, 10], [1.5, 10], [100, 20.126], [-0.001, 30], [0, 10]], np.float32)
    made = Outlines(points, np.array([0, 5]), np.array([0, 1]), np.zeros(1, bool))
    (text,) = geometries(made)
    assert text == '{"type":"Polygon","coordinates":[[[0,10],[1.5,10],[100,20.13],[0,30],[0,10]]]}'


def test_without_cells_it_is_an_empty_collection_that_says_where_it_is_from(tmp_path: Path) -> None:
    for name, parts in (("none", []), ("empty", [cells(0, ODD)])):
        found = written(tmp_path / name, ODD, *parts)
        assert found["features"] == []
        assert found["tissueseg"]["tissue"] == ODD.tissue
        assert found["tissueseg"]["unit"] == "px"
