"""YAML files, read without building anything but plain values; what is wrong with one is a line.

PyYAML has errors of its own for what it cannot parse. But what its readers of numbers, dates and flags
meet in a value under a tag such as `!!bool maybe` comes out as it is: KeyError, AttributeError, …
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tissueseg.errors import in_one_line

_ITS_OWN = (OSError, UnicodeError, yaml.YAMLError)
_OF_TAGS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
UNREADABLE = (*_ITS_OWN, *_OF_TAGS, RecursionError, MemoryError)
"""All that reading a file may raise."""


def load_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What a file holds.

    Raises:
        ValueError: it cannot be read, in one line without the file's name.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - a safe one
    except UNREADABLE as error:
        raise ValueError(what_is_wrong(error)) from error


def what_is_wrong(error: BaseException) -> str:
    """What reading a file has raised, in a line without a full stop."""
    if isinstance(error, RecursionError | MemoryError):
        return "brackets are nested too deeply"
    if isinstance(error, _OF_TAGS) and not isinstance(error, _ITS_OWN):
        return f"a value is none of its kind ({type(error).__name__}: {in_one_line(error)[:120]})"
    return in_one_line(error)
