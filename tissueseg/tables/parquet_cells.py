"""Cells as Parquet: every column and the embedding, with units and provenance in the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tissueseg.instances.cell_table import CellTable
from tissueseg.tables.cell_columns import arrow_column, arrow_schema
from tissueseg.tables.cell_writer import CellWriter

_GROUP_ROWS = 50_000
_GROUP_BYTES = 64 << 20  # with wide embeddings a group has fewer rows


class RowGroups:
    """Joins tables to row groups of one size, so that small parts make no small groups.

    Memory holds one group and one part.

    Args:
        path: of a Parquet file.
        schema: of every table.
        plain: leave out Arrow's own copy of the schema, whose metadata would hide what `close` is given.
    """

    def __init__(self, path: Path, schema: pa.Schema, plain: bool = False) -> None:
        self.schema = schema
        self._writer = parquet.ParquetWriter(
            path, schema, compression="zstd", store_schema=not plain
        )
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Take rows in, and write the groups that are full."""
        self._waiting.append(table)
        rows = sum(len(t) for t in self._waiting)
        size = sum(t.nbytes for t in self._waiting)
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            group = max(1, min(_GROUP_ROWS, rows * _GROUP_BYTES // max(size, 1)))
            joined = pa.concat_tables(self._waiting)
            full = rows // group * group
            self._writer.write_table(joined.slice(0, full), row_group_size=group)
            self._waiting = [joined.slice(full)] if full < rows else []

    def close(self, metadata: Mapping[str | bytes, str | bytes] | None = None) -> None:
        """Write what waits, and the end of the file.

        Args:
            metadata: of the file, where it is only known now; of a plain file, all there is.
        """
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        if metadata:
            self._writer.add_key_value_metadata(metadata)
        self._writer.close()


class ParquetCells(CellWriter):
    """Writes `cells.parquet`; what is not known (NaN) is null.

    The key `tissueseg` of the metadata holds in JSON: version, tissue, mpp, types with their colours,
    channels, units of columns and provenance.
    """

    file_name = "cells.parquet"
    _groups: RowGroups | None = None

    def _open(self, hidden: Path, first: CellTable) -> None:
        schema = arrow_schema(first, self.schema)
        if width := self.schema.embedding_width:
            schema = schema.append(pa.field("embedding", pa.list_(pa.float32(), width)))
        self._groups = RowGroups(hidden, schema)

    def _write(self, part: CellTable) -> None:
        assert self._groups is not None
        schema = self._groups.schema
        arrays = [arrow_column(v, schema.field(name).type) for name, v in part.columns.items()]
        if part.embedding is not None:
            flat = pa.array(part.embedding.astype("float32", copy=False).ravel())
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, self.schema.embedding_width))
        self._groups.add(pa.table(arrays, schema=schema))

    def _close(self, complete: bool) -> None:
        if self._groups is not None:
            self._groups.close()
