"""Columns of a table of cells: their units, and as Arrow holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from tissueseg.instances.cell_table import COLUMNS, CellSchema, CellTable, Outlines

VERSION = 1
"""Of the columns and of what files say of them."""

_UNITS = {"_px": "px", "_um": "µm", "_um2": "µm²"}
_WHOLE = ("left_px", "top_px", "right_px", "bottom_px", "area_px")
_KINDS = {"id": np.int64, "type": np.int64, "at_edge": np.bool_, "type_name": np.object_}


def unit(column: str) -> str | None:
    """Unit of a column; None where it has none, or the image's own."""
    if column in dict(COLUMNS):
        return next((unit for end, unit in _UNITS.items() if column.endswith(end)), None)
    return None


def _names(schema: CellSchema) -> Iterator[str]:
    """All columns that a schema promises; optical densities are not among them."""
    for column, _ in COLUMNS:
        stem, placeholder, _ = column.partition("<")
        if placeholder:
            types = (name for _, name, _ in schema.types)
            yield from (stem + n for n in (types if column == "prob_<class>" else schema.channels))
        elif not column.startswith("od_") and (schema.mpp or unit(column) in (None, "px")):
            yield column


def no_cells(schema: CellSchema) -> CellTable:
    """A part without rows, for tissues in which there is nothing."""
    nothing = np.zeros(1, np.int64)
    return CellTable(
        {name: np.zeros(0, _dtype(name)) for name in _names(schema)},
        Outlines(np.zeros((0, 2), np.float32), nothing, nothing, np.zeros(0, bool)),
        np.zeros((0, schema.embedding_width), np.float32) if schema.embedding_width else None,
    )


def _dtype(column: str) -> type:
    """As measured: what has a unit is float64 or int32, other numbers are float32."""
    if column in _WHOLE:
        return np.int32
    return _KINDS.get(column, np.float64 if unit(column) else np.float32)


def described(schema: CellSchema) -> dict[str, Any]:
    """What files say of the cells they hold, in types JSON knows."""
    types = [{"id": id, "name": name, "color": color} for id, name, color in schema.types]
    return {"version": VERSION} | asdict(schema) | {"types": types}


def arrow_schema(
    part: CellTable, schema: CellSchema, units: dict[str, str] | None = None
) -> pa.Schema:
    """Fields of a table like `part`; the metadata's `tissueseg` says in JSON what they mean.

    Args:
        part: any part of the cells.
        schema: of all of them.
        units: of fields that are none of its columns.
    """
    fields = [pa.field(name, _kind(values)) for name, values in part.columns.items()]
    own = {name: found for name in part.columns if (found := unit(name))}
    about = described(schema) | {"units": own | (units or {})}
    return pa.schema(fields, metadata={"tissueseg": json.dumps(about, ensure_ascii=False)})


def arrow_column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """A column; NaN is null."""
    if pa.types.is_string(kind):
        return pa.array(values.tolist(), kind)
    return pa.array(values, kind, from_pandas=True)


def _kind(values: np.ndarray) -> pa.DataType:
    return pa.string() if values.dtype.kind in "OUT" else pa.from_numpy_dtype(values.dtype)
