"""One large table of the cells of many tissues: which type each has, in a few bytes a cell."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.checks import HIGHEST_ID
from tissueseg.store.reading.tables import Table, read_batches
from tissueseg.store.sources.description import Section, parse_classes

TISSUE, CELL = "tissue_id", "cell_id"


class CellTypes:
    """Types of the cells of some tissues.

    Args:
        path: csv or Parquet with `tissue_id`, `cell_id` and a column of types.
        column: the column of types.
        tissues: rows of others are skipped.

    Raises:
        TissueDataError: missing columns, or cell ids that are no integers or given twice.
    """

    def __init__(self, path: Path, column: str, tissues: Collection[str]) -> None:
        self.path, self.column = path, column
        self._words: dict[str, int] = {}
        self._cells = {tissue: (array("q"), array("I")) for tissue in tissues}
        for table in read_batches(path, [TISSUE, CELL, column]):
            self._add(table)
        for tissue, (ids, _) in self._cells.items():
            found, counts = np.unique(np.array(ids), return_counts=True)
            if (counts > 1).any():
                twice = found[counts > 1]
                raise TissueDataError(
                    f"tissue {tissue}: {path} gives {twice.size} cells twice, such as "
                    f"{CELL} {int(twice[0])}: keep one row each."
                )

    @property
    def words(self) -> tuple[str, ...]:
        """Types that occur, sorted; "" is not among them."""
        return tuple(sorted(word for word in self._words if word))

    def classes(self, tissue: str, type_ids: Mapping[str, int]) -> dict[int, int]:
        """Class id of each cell of a tissue, those of unknown type left out.

        Args:
            tissue: its name.
            type_ids: type -> class id, 0 for those that mean: not known.
        """
        ids, codes = self._cells[tissue]
        table = [type_ids.get(word, 0) for word in self._words]
        return {i: table[code] for i, code in zip(ids, codes, strict=True) if table[code]}

    def check(self, type_ids: Mapping[str, int], classes: Sequence[str]) -> None:
        """Refuse types that no class takes.

        Raises:
            TissueDataError: naming them, and a class that looks like the first.
        """
        if strange := [word for word in self.words if word not in type_ids]:
            close = difflib.get_close_matches(strange[0], list(type_ids), n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            raise TissueDataError(
                f"{self.path}: {self.column} holds {', '.join(map(repr, strange[:5]))}{more}{hint}, but "
                f"the classes are {list(classes)}: name it as a class, among the `types` of a class, or "
                "under source.unknown_types."
            )

    def check_count(self) -> None:
        """Refuse a column of something else than types."""
        if len(self.words) >= IGNORE:
            raise TissueDataError(
                f"{self.path}: {self.column} holds {len(self.words)} different values, too many for "
                "types: choose source.types_column, or give source.classes."
            )

    def _add(self, table: Table) -> None:
        tissues = table.texts(TISSUE)
        rows = [row for row, tissue in enumerate(tissues) if tissue in self._cells]
        lines = [table.lines[row] for row in rows]
        columns = {n: [values[row] for row in rows] for n, values in table.columns.items()}
        kept = Table(table.path, columns, lines)
        cells = zip(kept.texts(TISSUE), kept.integers(CELL), kept.texts(self.column), strict=True)
        for tissue, cell, word in cells:
            if not 0 <= cell <= HIGHEST_ID:
                continue  # of no instance in any mask
            ids, codes = self._cells[tissue]
            ids.append(cell)
            codes.append(self._words.setdefault(word, len(self._words)))


def settle_classes(
    types: CellTypes | None, given: Any, unknown: Any
) -> tuple[tuple[TissueClass, ...], dict[str, int], tuple[str, ...]]:
    """Class table, type -> class id (0: not known), and what was assumed.

    Args:
        types: that occur; None: all cells are of one class.
        given: classes as in a folder's description; None: the types that occur, sorted.
        unknown: list of types that mean: not known.
    """
    options = {"classes": given, "unknown_types": unknown}
    section = Section(options, "options: source", tuple(options))
    ignored = dict.fromkeys(section.texts("unknown_types"), 0)
    found = [word for word in (types.words if types else ()) if word not in ignored]
    said: tuple[str, ...] = ()
    if given is None:
        options["classes"] = ["background", *(found if types else ["cell"])]
        if types:
            types.check_count()
            said = (f"classes are the types that occur: {', '.join(found)}",)
    classes, type_ids = parse_classes(section, needed=types is not None)
    if both := sorted(set(ignored) & set(type_ids)):
        raise ConfigError(f"source.unknown_types holds {both}, which source.classes takes.")
    type_ids = type_ids | ignored
    if types:
        types.check(type_ids, [c.name for c in classes])
    return classes, type_ids, said
