"""The form a value from a file should have, so that an odd one is named when it is read.

Keys that a form does not name may hold anything, and those it names may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Form = Any
"""Types that a value may have; keys of a mapping with the forms of what lies there; or one of these:"""


@dataclass(frozen=True)
class Each:
    """A mapping whose values all have one form."""

    form: Form


@dataclass(frozen=True)
class Listed:
    """A list whose entries all have one form."""

    form: Form


@dataclass(frozen=True)
class Columns:
    """A mapping with lists of one length under some keys, or none of them; others have their forms."""

    names: tuple[str, ...]
    form: Form  # of an entry
    others: Mapping[str, Form] = field(default_factory=dict)


@dataclass(frozen=True)
class Maybe:
    """Of a form, or null."""

    form: Form


@dataclass(frozen=True)
class Either:
    """Of one of some forms."""

    forms: tuple[Form, ...]


TEXT = Maybe(str)
NUMBER = Maybe(float)  # finite, whole or not


def require(found: Any, form: Form, key: str = "") -> None:
    """Refuse a value of another form.

    Args:
        found: as read.
        form: that it should have.
        key: where it stands in its file.

    Raises:
        ValueError: naming the first key that is otherwise, what stands there and what was wanted.
    """
    match form:
        case Maybe():
            if found is not None:
                require(found, form.form, key)
        case Either():
            if all(_differs(found, other) for other in form.forms):
                raise ValueError(_said(key, found, form))
        case Each() | dict():
            if not isinstance(found, Mapping):
                raise ValueError(_said(key, found, form))
            forms = dict.fromkeys(found, form.form) if isinstance(form, Each) else form
            for name in (name for name in forms if name in found):
                require(found[name], forms[name], f"{key}.{name}" if key else str(name))
        case Columns():
            lists = dict.fromkeys(form.names, Listed(form.form))
            require(found, lists | {**form.others}, key)
            lengths = {name: len(found[name]) if name in found else 0 for name in form.names}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"{key or 'it'} has lists of {lengths}, wanted them of one length")
        case Listed():
            if not isinstance(found, Sequence) or isinstance(found, str | bytes):
                raise ValueError(_said(key, found, form))
            for i, entry in enumerate(found):
                require(entry, form.form, f"{key}[{i}]")
        case _ if not _is(found, form):
            raise ValueError(_said(key, found, form))


def _differs(found: Any, form: Form) -> bool:
    try:
        require(found, form)
    except ValueError:
        return True
    return False


def _is(found: Any, kind: type) -> bool:
    if kind is not float:
        return isinstance(found, kind) and not (kind is int and isinstance(found, bool))
    try:
        return isinstance(found, int | float) and math.isfinite(found)
    except OverflowError:  # of a whole number no float can hold
        return False


def _said(key: str, found: Any, form: Form) -> str:
    shown = " ".join(repr(found).split())
    shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
    return f"{key or 'it'} is {shown}, wanted {_wanted(form)}"


def _wanted(form: Form) -> str:
    match form:
        case Maybe():
            return f"{_wanted(form.form)} or null"
        case Either():
            return " or ".join(map(_wanted, form.forms))
        case Listed():
            return "a list"
        case Each() | Columns() | dict():
            return "keys with values"
    names = {str: "text", float: "a number", int: "a whole number", dict: "keys with values"}
    return names.get(form) or form.__name__
