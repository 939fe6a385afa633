"""Columns of cells by schema: names, units, and tables without rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from cells_made import ODD, PLAIN, SCHEMA, cells

from tissueseg.instances.cell_table import CellSchema
from tissueseg.tables.cell_columns import arrow_column, arrow_schema, no_cells, unit


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN, ODD])
def test_a_table_without_cells_has_the_columns_of_one_with_cells(schema: CellSchema) -> None:
    expected = [name for name in cells(3, schema).columns if not name.startswith("od_")]
    empty = no_cells(schema)
    assert list(empty.columns) == expected
    assert len(empty) == 0
    kinds = {name: values.dtype.kind for name, values in cells(3, schema).columns.items()}
    assert all(kinds[name] == values.dtype.kind for name, values in empty.columns.items())


def test_units_are_those_of_known_columns_only() -> None:
    assert [unit(n) for n in ("x_px", "y_um", "area_um2", "id")] == ["px", "µm", "µm²", None]
    assert unit("mean_marker_px") is None  # a channel may be called marker_px


def test_metadata_tells_what_the_cells_are() -> None:
    fields = arrow_schema(cells(1, ODD), ODD, {"geometry": "µm"})
    said = json.loads(fields.metadata[b"tissueseg"])
    assert said["types"][0] == {"id": 1, "name": 'T "helper"', "color": "#000001"}
    assert said["about"] == ODD.about
    assert (said["tissue"], said["mpp"], said["channels"]) == (ODD.tissue, 0.5, list(ODD.channels))
    assert said["units"]["area_um2"] == "µm²"
    assert said["units"]["geometry"] == "µm"
    assert "mean_CD3, ε" not in said["units"]


def test_what_is_not_known_is_null() -> None:
    found = arrow_column(np.array([1, np.nan, np.inf], np.float32), pa.float32())
    assert found.to_pylist() == [1, None, np.inf]
    assert arrow_column(np.array(["a", "ü"]), pa.string()).to_pylist() == ["a", "ü"]
