"""Cells as CSV: every column but the embedding, in UTF-8, with a header even where there is no cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from tissueseg.instances.cell_table import CellTable
from tissueseg.tables.cell_columns import arrow_column, arrow_schema
from tissueseg.tables.cell_writer import CellWriter

_DIGITS = 6  # significant ones, which is more than any of the numbers deserves
_DECIMALS = 2  # at least, so that places on a large tissue stay exact to a hundredth of a pixel


class CsvCells(CellWriter):
    """Writes `cells.csv`; what is not known (NaN) is an empty field."""

    file_name = "cells.csv"
    _writer: csv.CSVWriter | None = None

    def _open(self, hidden: Path, first: CellTable) -> None:
        fields = arrow_schema(first, self.schema).remove_metadata()
        self._fields = pa.schema([(f.name, _printed(f.type)) for f in fields])
        self._stream = pa.OSFile(str(hidden), "wb")
        self._writer = csv.CSVWriter(self._stream, self._fields)

    def _write(self, part: CellTable) -> None:
        assert self._writer is not None
        columns = [
            arrow_column(rounded(part.columns[field.name]), field.type) for field in self._fields
        ]
        self._writer.write_table(pa.table(columns, schema=self._fields))

    def _close(self, complete: bool) -> None:
        if self._writer is not None:
            self._writer.close()
            self._stream.close()


def rounded(values: np.ndarray) -> np.ndarray:
    """Floats as float64 with six significant digits and at least two decimals; others as they are."""
    if values.dtype.kind != "f":
        return values
    exact = values.astype(np.float64)
    size = np.abs(np.where(np.isfinite(exact) & (exact != 0), exact, 1))
    decimals = _DIGITS - 1 - np.floor(np.log10(size))
    factor = 10.0 ** np.clip(decimals, _DECIMALS, 22)  # the powers that are exact in float64
    return np.rint(exact * factor) / factor


def _printed(kind: pa.DataType) -> pa.DataType:
    """Type in which a column is printed: float32 would show digits that rounding took away."""
    return pa.float64() if pa.types.is_floating(kind) else kind
