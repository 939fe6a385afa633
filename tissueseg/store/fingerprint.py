"""What stored features were made from, field by field, and whether that is what a run wants.

The fingerprint is a digest of these fields; where two differ the fields say how. The pixels of tissues
are no part of it: every tissue carries the digest of its own, so that a cohort may grow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

_HOW = ("precision", "dtype", "views", "tiling.edges")
"""Fields that say how features were made, not what of."""

FILES = "files."
"""Before the names of fields that are digests of files; a run need not have the files at hand."""

_SHOWN_DIGITS = 8
_SHA256_DIGITS = 64

Fields = Mapping[str, Any]
"""Plain types, nested mappings and lists included, as JSON gives them back."""


class Check(StrEnum):
    """How alike a store's fields and a run's must be."""

    STRICT = "strict"  # every field
    MATCH = "match"  # all that features are made of; views, number type and precision may differ


class Difference(NamedTuple):
    """One field in which a store is not what a run wants."""

    field: str
    stored: Any
    wanted: Any

    def __str__(self) -> str:
        field = self.field.removeprefix(FILES)
        return f"{field} {_shown(self.stored)} ≠ {_shown(self.wanted)}"


def fingerprint(fields: Fields) -> str:
    """sha256 of all fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def differences(stored: Fields, wanted: Fields, check: Check = Check.STRICT) -> list[Difference]:
    """Fields in which a store is not what a run wants, in the order of their names.

    Args:
        stored: of the store.
        wanted: of the run; digests of files that are None are not stated, and any will do.
        check: whether fields that only say how features were made count.
    """
    ours, theirs = flat(stored), flat(wanted)
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        unstated = name in theirs and theirs[name] is None and name.startswith(FILES)
        if unstated or (check == Check.MATCH and name.startswith(_HOW)):
            continue
        if ours.get(name) != theirs.get(name):
            found.append(_difference(name, ours.get(name), theirs.get(name)))
    return found


def flat(fields: Fields, lead: str = "") -> dict[str, Any]:
    """Nested mappings as one, their keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in fields.items():
        name = f"{lead}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


def _difference(name: str, stored: Any, wanted: Any) -> Difference:
    """Of long lists, the first entry that differs."""
    lists = all(isinstance(v, Sequence) and not isinstance(v, str) for v in (stored, wanted))
    if lists and max(len(stored), len(wanted)) > 4:
        pairs = enumerate(zip(stored, wanted, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(stored), len(wanted)))
        mine, yours = (values[at] if at < len(values) else None for values in (stored, wanted))
        return Difference(f"{name}[{at}]", mine, yours)
    return Difference(name, stored, wanted)


def _shown(value: Any) -> str:
    if isinstance(value, str) and len(value) == _SHA256_DIGITS and value.isalnum():
        return f"sha {value[:_SHOWN_DIGITS]}…"
    return "nothing" if value is None else str(value)
