"""What every writer of a file of cells is: parts go in, and the file stands there when it is whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from tissueseg.errors import TissueDataError, TissuesegError
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.store.hidden_folder import HiddenFolder
from tissueseg.tables.cell_columns import no_cells
from tissueseg.tables.targets import check_target


class CellWriter(ABC):
    """Writes the cells of one tissue, part by part, to a hidden file that is renamed at the end.

    Use it in a `with` statement: when the block ends well the file is complete; after an error nothing
    is left, and what was at the path stays. Memory holds one part unless a format says otherwise.

    Args:
        path: of the file.
        schema: of all parts.
        overwrite: whether a file at the path gives way.
    """

    file_name: ClassVar[str]
    """Of this format's file, in a tissue's folder."""
    library: ClassVar[str | None] = None
    """Module it cannot do without, of the extra of the same name; None: needs no extra."""
    outlines: ClassVar[bool] = False
    """Whether it draws cells, so that parts must have outlines."""

    def __init__(self, path: str | Path, schema: CellSchema, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.schema = schema
        self.rows = 0  # cells so far
        self._overwrite = overwrite
        self._place = HiddenFolder(self.path, own=True)
        self._columns: list[str] | None = None  # of the first part
        self._last = 0  # id of the last cell

    @abstractmethod
    def _open(self, hidden: Path, first: CellTable) -> None:
        """Make the file; `first` shows which columns parts have."""

    @abstractmethod
    def _write(self, part: CellTable) -> None:
        """Append a part that has been checked, and may have no rows."""

    @abstractmethod
    def _close(self, complete: bool) -> None:
        """End and close the file, if it was opened; not complete: it is about to be removed."""

    def __enter__(self) -> Self:
        check_target(self.path, self._overwrite, Path.is_file)
        with _writing(self.path):
            self._place.make_parents()
            self._place.folder.unlink(missing_ok=True)
        return self

    def add(self, part: CellTable) -> None:
        """Append cells, whose ids are higher than those before.

        Raises:
            TissueDataError: the part does not continue those before, or cannot be written.
        """
        self._check(part)
        with _writing(self.path):
            if self._columns is None:
                self._columns = list(part.columns)
                self._open(self._place.folder, part)
            self._write(part)
        self.rows += len(part)
        self._last = int(part.columns["id"][-1]) if len(part) else self._last

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with _writing(self.path):
                if error is None and self._columns is None:
                    self.add(no_cells(self.schema))
                self._close(complete=error is None)
                if error is None:
                    self._place.folder.replace(self.path)
        finally:
            self._place.folder.unlink(missing_ok=True)
            self._place.remove_parents()

    def _check(self, part: CellTable) -> None:
        ids, drawn = part.columns["id"], part.outlines
        if self._columns is not None and list(part.columns) != self._columns:
            changed = sorted(set(part.columns) ^ set(self._columns)) or "their order"
            raise self._refusal(f"has other columns than those before it ({changed})")
        if len(ids) and (ids[0] <= self._last or (np.diff(ids) <= 0).any()):
            raise self._refusal(f"has ids that do not rise from {self._last}")
        if self.outlines and (drawn is None or len(drawn.cells) != len(ids) + 1):
            raise self._refusal("lacks outlines of its cells, which this format draws")
        found = 0 if part.embedding is None else part.embedding.shape[1]
        if found != self.schema.embedding_width:
            raise self._refusal(f"has embeddings of {found}, not {self.schema.embedding_width}")

    def _refusal(self, what: str) -> TissueDataError:
        return TissueDataError(
            f"{self.path}: a part of {self.schema.tissue}'s cells {what}. Measure all parts alike, and "
            "add them in order of ids."
        )


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say in one line what the disk objects to."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TissuesegError):
            raise
        raise TissueDataError(f"cannot write {path}: {error}.") from error
