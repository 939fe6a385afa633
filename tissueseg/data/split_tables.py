"""Splits that are written down: by the source, in a table of the user's, or in the store by name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from tissueseg.data.splits import Cohort, Split, SplitRule, check_split
from tissueseg.errors import ConfigError, SplitError
from tissueseg.store.named_splits import NamedSplit, kept_names, read_split
from tissueseg.store.notices import name_some
from tissueseg.store.reading.tables import read_table

LEFT_OUT = "leave_out"
_SIDES = (*Split._fields, LEFT_OUT)
_UNSAFE = re.compile("[^A-Za-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class Column(SplitRule):
    """Tissues go where a column puts them: the source's own, such as published folds, or the user's.

    Attributes:
        table: file with a row a tissue, csv or tsv; None: what the store's source said of its tissues.
        column: of the table, with splits or folds.
        tissue_column: of the table, with names of tissues.
        train: values of the column that train.
        val: those that choose the epoch.
        test: those that are only reported.
        leave_out: those that are not used; null for tissues of which nothing is said.
    """

    rule: ClassVar[str] = "column"
    table: str | None = None
    column: str = "split"
    tissue_column: str = "tissue"
    train: Sequence[Any]
    val: Sequence[Any]
    test: Sequence[Any] = ()
    leave_out: Sequence[Any] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("table", "column", "tissue_column"):
            value = getattr(self, key)
            if not isinstance(value, str) and not (key == "table" and value is None):
                raise ConfigError(f"split.{key}={value!r} cannot be used: give a name, as text.")

    def options(self) -> dict[str, Any]:
        """The table, if there is one, and what stands under each side."""
        table = {}
        if self.table is not None:
            path = str(Path(self.table).expanduser().resolve())
            table = {"table": path, "column": self.column, "tissue_column": self.tissue_column}
        return table | {side: sorted(_texts(getattr(self, side)), key=str) for side in _SIDES}

    def derived_name(self) -> str:
        """Short: paths and lists of values stand in it as a digest."""
        column = "source" if self.table is None else _UNSAFE.sub("-", str(self.column))[:40]
        digest = sha256(json.dumps(self.options(), sort_keys=True).encode()).hexdigest()
        return f"{self.rule}_{column}_{digest[:12]}"

    def check_files(self) -> None:
        """Read the table."""
        if self.table is not None:
            self._read(Path(self.table))

    def __call__(self, cohort: Cohort) -> Split:
        """See `SplitRule`; besides, each tissue's value must stand under one side."""
        stated = self._stated(cohort)
        if self.table is None and not any(stated.values()) and None not in _texts(self.leave_out):
            raise SplitError(
                "split=column: the store's source states no splits of its tissues: give split.table=…, "
                "a table of yours, or choose another rule, such as split=by_patient."
            )
        places = {side: _texts(getattr(self, side)) for side in _SIDES}
        taken: dict[str, list[str]] = {side: [] for side in _SIDES}
        for tissue in sorted(cohort.patients):
            value = stated.get(tissue)
            sides = [side for side, values in places.items() if value in values]
            if len(sides) != 1:
                found = sorted({v for v in stated.values() if v is not None})
                raise SplitError(
                    f"split: tissue {tissue} is in {value!r} of {self._where()}, which stands under "
                    f"{' and '.join(sides) or 'no side'}: give each of {found} to one of split.train, "
                    "val, test, leave_out."
                )
            taken[sides[0]].append(tissue)
        split = Split(*(tuple(taken[side]) for side in Split._fields))
        return check_split(split, cohort.patients)

    def _where(self) -> str:
        return "its source" if self.table is None else f"column {self.column} of {self.table}"

    def _stated(self, cohort: Cohort) -> dict[str, str | None]:
        if self.table is None:
            return {t: _text(cohort.stated.get(t)) for t in cohort.patients}
        rows = self._read(Path(self.table))
        if absent := sorted(set(cohort.patients) - set(rows)):
            raise SplitError(
                f"split.table={self.table} has no row for {name_some(absent)} of the store: add them "
                f"(column {self.tissue_column})."
            )
        if unknown := sorted(set(rows) - set(cohort.patients)):
            raise SplitError(
                f"split.table={self.table} names {name_some(unknown)}, which the store does not hold: "
                "mend the names or remove the rows."
            )
        return rows

    def _read(self, path: Path) -> dict[str, str | None]:
        """Tissue -> value, None where the cell is empty."""
        path = path.expanduser()
        if not path.is_file():
            raise ConfigError(
                f"split.table={self.table}: no such file. Give a csv or tsv with a row a tissue, or null."
            )
        table = read_table(path, [self.tissue_column, self.column])
        tissues = table.texts(self.tissue_column)
        if twice := sorted(tissue for tissue, rows in Counter(tissues).items() if rows > 1):
            raise SplitError(
                f"split.table={self.table} has several rows for {name_some(twice)}: keep one."
            )
        return dict(zip(tissues, map(_text, table.texts(self.column)), strict=True))


@dataclass(frozen=True, kw_only=True)
class Named(SplitRule):
    """The split that the store keeps under a name, as long as tissues and pixels are the same."""

    rule: ClassVar[str] = "named"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is None:
            raise ConfigError(
                "split=named: give split.name=…, the name of a split the store keeps."
            )

    def options(self) -> dict[str, Any]:
        """None but the name."""
        return {}

    def __call__(self, cohort: Cohort) -> Split:
        """Read it, and compare what it was kept for with what is there."""
        kept = read_split(cohort.address, self.label)
        if kept is None:
            names = kept_names(cohort.address)
            known = f"; it keeps {', '.join(names[:10])}" if names else ""
            raise SplitError(
                f"split.name={self.label}: {cohort.address} keeps no split of this name{known}. Choose "
                "another, or make it by training once with another split and this split.name."
            )
        side_of = {t: side for side, tissues in kept.sides.items() for t in tissues}
        now: dict[str, dict[str, str]] = {}
        for tissue, digest in cohort.digests.items():
            now.setdefault(side_of.get(tissue, LEFT_OUT), {})[tissue] = digest
        if found := kept.differences(now):
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise SplitError(
                f"split.name={self.label} was kept for other tissues than {cohort.address} holds now: "
                f"{found[0]}{more}. Split anew, under another name."
            )
        split = Split(*(tuple(sorted(kept.sides.get(side, ()))) for side in Split._fields))
        return check_split(split, cohort.patients)


def named_split(rule: SplitRule, split: Split, digests: Mapping[str, str]) -> NamedSplit:
    """What a store keeps of a split.

    Args:
        rule: that made it.
        split: as made.
        digests: of all tissues of the store.
    """
    sides = {side: {t: digests[t] for t in tissues} for side, tissues in split._asdict().items()}
    placed = {tissue for tissues in sides.values() for tissue in tissues}
    sides[LEFT_OUT] = {t: digest for t, digest in digests.items() if t not in placed}
    return NamedSplit(rule.label, {"split": rule.rule} | rule.options(), sides)


def _texts(values: Any) -> list[str | None]:
    """One value or several, as they stand in a table."""
    several = values if isinstance(values, list | tuple) else [values]
    return [_text(value) for value in several]


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
