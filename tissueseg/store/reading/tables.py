"""Tables as columns, from csv, tsv and Parquet; what is wrong is said with file, column and line.

Only some labs' data are Parquet, so pyarrow is imported when such a file is opened: it takes a moment.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tissueseg.errors import TissueDataError, in_one_line

INDEX = "__index_level_0__"
"""Column under which pandas saves an index that has no name."""

EMPTY = ("", "NA", "NaN", "nan", "None", "null")
"""Words of a text table that mean: nothing."""

_LONGEST_ID = 150  # characters; a file's name has 255 bytes, and more stands in it
_BATCH = 65_536  # rows of a large table in memory at once
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Table:
    """Columns of a file, or of a part of it."""

    path: Path
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]  # of each row in a text file; its number in a Parquet file

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """File and line, for messages."""
        return f"{self.path} {'row' if _is_parquet(self.path) else 'line'} {self.lines[row]}"

    def column(self, *names: str) -> Sequence[Any]:
        """The first column there is of some names.

        Raises:
            TissueDataError: none of them.
        """
        for name in names:
            if name in self.columns:
                return self.columns[name]
        raise _missing(self.path, names[:1], list(self.columns))

    def texts(self, *names: str) -> list[str]:
        """A column as text, "" where it is empty."""
        return ["" if _is_empty(v) else str(v).strip() for v in self.column(*names)]

    def integers(self, *names: str) -> list[int]:
        """A column of whole numbers."""
        return [self._whole(value, row, names[0]) for row, value in enumerate(self.column(*names))]

    def numbers(self, *names: str) -> list[float]:
        """A column of numbers, NaN where it is empty."""
        return [self._number(value, row, names[0]) for row, value in enumerate(self.column(*names))]

    def flags(self, *names: str) -> list[bool | None]:
        """A column of yes and no (1 and 0, true and false), None where it is empty."""
        return [self._flag(value, row, names[0]) for row, value in enumerate(self.column(*names))]

    def _number(self, value: Any, row: int, name: str) -> float:
        if _is_empty(value):
            return float("nan")
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise TissueDataError(
                f"{self.where(row)}: {name} is {value!r}, wanted a number."
            ) from error

    def _whole(self, value: Any, row: int, name: str) -> int:
        number = self._number(value, row, name)
        if not number.is_integer():  # neither are NaN and infinity
            raise TissueDataError(f"{self.where(row)}: {name} is {value!r}, wanted a whole number.")
        return int(number)

    def _flag(self, value: Any, row: int, name: str) -> bool | None:
        if isinstance(value, bool) or _is_empty(value):
            return None if _is_empty(value) else bool(value)
        word = f"{value:g}" if isinstance(value, int | float) else str(value).strip().lower()
        if word.removesuffix(".0") not in _FLAGS:
            raise TissueDataError(f"{self.where(row)}: {name} is {value!r}, wanted 1 or 0.")
        return _FLAGS[word.removesuffix(".0")]


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a table.

    Args:
        path: csv with commas, semicolons or tabs, tsv, or Parquet.
        columns: only these; None: all.

    Raises:
        TissueDataError: missing, damaged, ragged, or without one of the columns.
    """
    parts = list(read_batches(path, columns))
    if len(parts) == 1:
        return parts[0]
    names = list(parts[0].columns)
    joined = {name: [v for part in parts for v in part.columns[name]] for name in names}
    return Table(path, joined, [line for part in parts for line in part.lines])


def read_batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Table]:
    """Read a table in parts of some thousand rows, at least one; see `read_table`."""
    try:
        if not path.is_file():
            raise TissueDataError(f"{path} is missing: add it.")
        if _is_parquet(path):
            yield from _read_parquet(path, columns)
        else:
            yield from _read_text(path, columns)
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, TissueDataError):
            raise
        raise _unreadable(path, error) from error


def column_names(path: Path) -> tuple[str, ...]:
    """Names of the columns of a table."""
    if _is_parquet(path) and path.is_file():
        with _arrow_errors(path) as parquet:
            return tuple(parquet.read_schema(path).names)
    return tuple(next(read_batches(path)).columns)


def plain_id(value: str, where: str) -> str:
    """A tissue id of a table, which becomes part of a file name.

    Raises:
        TissueDataError: empty, too long for a file's name, or it could lead out of the folder.
    """
    if len(value) > _LONGEST_ID:
        raise TissueDataError(
            f"{where}: {value[:40]!r}… has {len(value)} characters, too many for a tissue id: rename it."
        )
    if not value or value.startswith(".") or ".." in value or not value.isprintable():
        raise TissueDataError(f"{where}: {value!r} is no plain tissue id: rename it.")
    if "/" in value or "\\" in value:
        raise TissueDataError(f"{where}: {value!r} is a path, wanted a plain tissue id: rename it.")
    return value


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _is_empty(value: Any) -> bool:
    missing = value is None or (isinstance(value, float) and value != value)  # NaN is not itself
    return missing or (isinstance(value, str) and value.strip() in EMPTY)


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Table]:
    with _arrow_errors(path) as parquet:
        file = parquet.ParquetFile(path)
        found = file.schema_arrow.names
    with file:
        _check_columns(path, columns, found)
        names = list(found if columns is None else columns)
        batches, first = file.iter_batches(_BATCH, columns=names), 1
        while (values := _next_batch(path, batches, names)) is not None:
            rows = len(values[names[0]])
            yield Table(path, values, range(first, first + rows))
            first += rows
        if first == 1:
            yield Table(path, {name: [] for name in names}, ())


def _next_batch(
    path: Path, batches: Iterator[Any], names: Sequence[str]
) -> dict[str, list[Any]] | None:
    with _arrow_errors(path):
        batch = next(batches, None)
        return None if batch is None else {name: batch.column(name).to_pylist() for name in names}


@contextmanager
def _arrow_errors(path: Path) -> Iterator[Any]:
    """Hands out pyarrow's reader; what it, or what it asks for numbers and time zones, raises is said.

    Raises:
        TissueDataError: of a file that is damaged or holds what Python has no value for.
    """
    from pyarrow import ArrowException, parquet

    of_values = (ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError)
    try:
        yield parquet
    except (ArrowException, OSError, MemoryError, *of_values) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> TissueDataError:
    reason = in_one_line(error)[:160]
    return TissueDataError(f"{path} cannot be read as a table: {reason}.")


def _read_text(path: Path, columns: Sequence[str] | None) -> Iterator[Table]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t", key=header.count), strict=True)
        found = [name.strip() for name in next(reader, [])]
        _check_columns(path, columns, found)
        wanted = {name: found.index(name) for name in (found if columns is None else columns)}
        rows = _even_rows(path, reader, found)
        part = list(islice(rows, _BATCH))
        while True:  # one part at least
            values = {name: [row[place] for row, _ in part] for name, place in wanted.items()}
            yield Table(path, values, [line for _, line in part])
            if not (part := list(islice(rows, _BATCH))):
                return


def _even_rows(path: Path, reader: Any, found: Sequence[str]) -> Iterator[tuple[list[str], int]]:
    """Rows that have a value for every column, with their lines."""
    for row in reader:
        if row and len(row) != len(found):
            raise TissueDataError(
                f"{path} line {reader.line_num} has {len(row)} values, but {len(found)} columns "
                f"{list(found[:8])}: mend the line."
            )
        if row:
            yield row, reader.line_num


def _check_columns(path: Path, columns: Sequence[str] | None, found: Sequence[str]) -> None:
    if not any(found):
        raise TissueDataError(f"{path} is empty, wanted a header with names of columns.")
    if twice := sorted({name for name in found if list(found).count(name) > 1}):
        raise TissueDataError(f"{path} has the columns {twice} twice: rename one of each.")
    if missing := [name for name in columns or () if name not in found]:
        raise _missing(path, missing, found)


def _missing(path: Path, missing: Sequence[str], found: Sequence[str]) -> TissueDataError:
    listed = ", ".join(found[:20]) + (" …" if len(found) > 20 else "")
    return TissueDataError(f"{path} has no column {', '.join(missing)}; it has {listed}.")
