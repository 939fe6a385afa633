"""Cells as Parquet: values, embedding and metadata as pyarrow reads them; row groups of one size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cells_made import ODD, PLAIN, SCHEMA, cells
from pyarrow import parquet

from tissueseg.instances.cell_table import CellSchema
from tissueseg.tables import parquet_cells
from tissueseg.tables.parquet_cells import ParquetCells, RowGroups


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN, ODD])
def test_every_value_comes_back_as_it_was(schema: CellSchema, tmp_path: Path) -> None:
    part = cells(9, schema)
    with ParquetCells(tmp_path / "cells.parquet", schema) as writer:
        writer.add(part)
    table = parquet.read_table(writer.path)
    for name, values in part.columns.items():
        found = table[name].to_pandas().to_numpy()
        np.testing.assert_array_equal(found, values)
        assert found.dtype == values.dtype
    if part.embedding is None:
        assert table.column_names == list(part.columns)
    else:
        assert table.schema.field("embedding").type == pa.list_(pa.float32(), 3)
        np.testing.assert_array_equal(table["embedding"].to_pylist(), part.embedding)


def test_unknown_numbers_are_null_and_the_metadata_says_the_rest(tmp_path: Path) -> None:
    with ParquetCells(tmp_path / "cells.parquet", SCHEMA) as writer:
        writer.add(cells(8))
    table = parquet.read_table(writer.path)
    assert table["ring_mean_CD3"].null_count == 2
    said = json.loads(table.schema.metadata[b"tissueseg"])
    assert said["version"] == 1
    assert said["about"] == {"run": "r1", "decoder": "hv"}
    assert [kind["color"] for kind in said["types"]] == ["#ff0000", "#00ff7f", "#0a0b0c"]
    assert said["units"]["perimeter_um"] == "µm"
    group = parquet.ParquetFile(writer.path).metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}


def groups(path: Path) -> list[int]:
    metadata = parquet.ParquetFile(path).metadata
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def test_small_parts_are_joined_and_large_ones_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_cells, "_GROUP_ROWS", 10)
    sizes = [3, 0, 4, 4, 25, 1]
    with ParquetCells(tmp_path / "cells.parquet", SCHEMA) as writer:
        for i, size in enumerate(sizes):
            writer.add(cells(size, first=1 + 100 * i))
    assert groups(writer.path) == [10, 10, 10, 7]
    ids = parquet.read_table(writer.path)["id"].to_numpy()
    assert len(ids) == sum(sizes)
    assert (np.diff(ids) > 0).all()


def test_wide_rows_make_groups_of_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_cells, "_GROUP_BYTES", 800)
    table = pa.table({"a": np.arange(250)})
    writer = RowGroups(tmp_path / "a.parquet", table.schema)
    writer.add(table)
    writer.close({"more": "ä"})
    assert groups(tmp_path / "a.parquet") == [100, 100, 50]
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.read() == table
    assert file.metadata.metadata[b"more"].decode() == "ä"
