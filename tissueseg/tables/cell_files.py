"""The files a tissue's cells are written to: formats by name, and several of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from tissueseg.errors import ConfigError
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.tables.anndata import AnnDataCells
from tissueseg.tables.cell_writer import CellWriter
from tissueseg.tables.csv_cells import CsvCells
from tissueseg.tables.geojson import GeoJsonCells
from tissueseg.tables.geoparquet import GeoParquetCells
from tissueseg.tables.parquet_cells import ParquetCells

FORMATS: dict[str, type[CellWriter]] = {
    "csv": CsvCells,
    "parquet": ParquetCells,
    "geojson": GeoJsonCells,
    "geoparquet": GeoParquetCells,
    "anndata": AnnDataCells,
}
"""What cells are written as, by the name that configurations use."""


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats, each once, when all are known and can be written here.

    Raises:
        ConfigError: a name is unknown, or the extra it needs is not installed.
    """
    if unknown := [name for name in names if name not in FORMATS]:
        raise ConfigError(f"formats={list(names)}: {unknown} unknown. Choose from {list(FORMATS)}.")
    for name in names:
        library = FORMATS[name].library
        if library is not None and find_spec(library) is None:
            raise ConfigError(
                f"formats={list(names)}: {name} needs {library}, which is not installed: "
                f"pip install 'tissueseg[{library}]', or leave it out."
            )
    return tuple(dict.fromkeys(names))


class CellFiles:
    """Writes one tissue's cells to a file of every format; used like a `CellWriter`.

    Args:
        folder: of the tissue.
        schema: of the cells.
        formats: names that `check_formats` accepts.
    """

    def __init__(self, folder: str | Path, schema: CellSchema, formats: Sequence[str]) -> None:
        kinds = [FORMATS[name] for name in check_formats(formats)]
        self.writers = [k(Path(folder) / k.file_name, schema) for k in kinds]
        self._stack = ExitStack()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of the files, in the order of the formats."""
        return tuple(writer.path for writer in self.writers)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for writer in self.writers:
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def add(self, part: CellTable) -> None:
        """Append cells to every file."""
        for writer in self.writers:
            writer.add(part)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
