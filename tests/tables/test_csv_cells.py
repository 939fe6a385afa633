"""Cells as CSV, read back by Python's own reader."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from cells_made import ODD, PLAIN, SCHEMA, cells
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.tables.csv_cells import CsvCells, rounded


def written(path: Path, schema: CellSchema, *parts: CellTable) -> list[dict[str, str]]:
    with CsvCells(path / "cells.csv", schema) as writer:
        for part in parts:
            writer.add(part)
    with writer.path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN, ODD])
def test_all_columns_come_back(schema: CellSchema, tmp_path: Path) -> None:
    part = cells(9, schema)
    rows = written(tmp_path, schema, part)
    assert list(rows[0]) == list(part.columns)  # no embedding
    for name, values in part.columns.items():
        found = [row[name] for row in rows]
        if values.dtype.kind == "f":
            numbers = np.array([float(text or "nan") for text in found])
            np.testing.assert_allclose(numbers, values, rtol=1e-5, atol=1e-9)
        else:
            assert found == [
                str(v).lower() if v is True or v is False else str(v) for v in values.tolist()
            ]


def test_numbers_have_six_digits_and_unknown_ones_none(tmp_path: Path) -> None:
    rows = written(tmp_path, SCHEMA, cells(9))
    assert rows[0]["ring_mean_DAPI"] == ""
    assert rows[0]["at_edge"] in ("true", "false")
    digits = [
        len(row[n].replace(".", "").lstrip("0")) for row in rows for n in ("x_um", "prob_tumor")
    ]
    assert max(digits) <= 6


def test_a_tissue_without_cells_has_a_header(tmp_path: Path) -> None:
    assert written(tmp_path, ODD) == []
    header = next(csv.reader((tmp_path / "cells.csv").read_text(encoding="utf-8").splitlines()))
    assert header[:3] == ["id", "x_px", "y_px"]
    assert 'mean_HLA-"DR"' in header


def test_rounding_by_hand() -> None:
    values = np.array([0, -1.23456789, 123456.789, 1e9 + 0.126, 0.000123456789, np.inf, 1e-30])
    expected = [0, -1.23457, 123456.79, 1e9 + 0.13, 0.000123457, np.inf, 0]
    np.testing.assert_array_equal(rounded(values), expected)
    assert np.isnan(rounded(np.array([np.nan]))).all()
    assert rounded(np.array([1234567])).tolist() == [1234567]


@given(st.lists(st.floats(-1e9, 1e9, width=32).filter(lambda v: v == 0 or abs(v) > 1e-15)))
@settings(max_examples=50, deadline=None)
def test_rounding_is_what_printing_six_digits_says(values: list[float]) -> None:
    found = rounded(np.array(values, np.float32))
    for value, short in zip(values, found, strict=True):
        error = max(abs(value) * 5.001e-6, 1e-30) if abs(value) < 1000 else 0.00501
        assert abs(value - short) <= error
        assert short == (float(f"{short:.6g}") if abs(value) < 1000 else round(short, 2))
