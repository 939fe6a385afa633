"""Splits kept in a tissue store under their names, for other runs and other people to use again.

They lie in a hidden folder of the store: no tissue can be called so, and what reads a store reads its
index and never lists the folder. Another split of the same name is refused, so that a name in a table of
scores always means the same tissues with the same pixels.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from tissueseg.errors import SplitError, StoreWriteError, in_one_line
from tissueseg.store.checks import is_plain_name
from tissueseg.store.remote import connect, is_remote

FOLDER = ".splits"
_SCHEMA = 1
_MARK = "zarr"
"""Name of the file by which the folder is a group, so that zarr lists the store without a warning."""
_GROUP = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'

Sides = Mapping[str, Mapping[str, str]]
"""Side -> tissue -> digest of its pixels."""


class NamedSplit(NamedTuple):
    """What the store keeps of a split."""

    name: str
    rule: Mapping[str, Any]  # choice and options that made it
    sides: Sides  # train, val, test, and leave_out for tissues that are not used

    def differences(self, sides: Sides) -> list[str]:
        """What is otherwise in other sides, a line for each tissue."""
        mine, theirs = _places(self.sides), _places(sides)
        return [
            _difference(tissue, mine.get(tissue), theirs.get(tissue))
            for tissue in sorted(mine | theirs)
            if mine.get(tissue) != theirs.get(tissue)
        ]


def is_split_name(name: str) -> bool:
    """Whether a split may be called so: a plain file name, and not that of zarr's own file."""
    return is_plain_name(name) and name != _MARK


def keep_split(address: str, split: NamedSplit) -> str:
    """Write a split into a store, unless it is there.

    Args:
        address: of the store.
        split: its name is a plain file name.

    Returns:
        Where it lies.

    Raises:
        SplitError: the store keeps another split under this name.
        StoreWriteError: the store takes no files.
        UnreachableError: the store is remote and does not answer.
    """
    if not _has(address, split):
        if is_remote(address):
            raise StoreWriteError(f"{address} is remote and only read")
        try:
            _write(_path(address, split.name), split)
        except OSError as error:
            raise StoreWriteError(f"{address} cannot be written: {in_one_line(error)}") from error
        _has(address, split)  # another process may have been faster
    return _file(address, split.name)


def read_split(address: str, name: str) -> NamedSplit | None:
    """A split that a store keeps; None: none of this name.

    Raises:
        SplitError: the file is damaged.
        UnreachableError: the store is remote and does not answer.
    """
    content = _read(address, name)
    if content is None:
        return None
    try:
        kept = json.loads(content)
        split = NamedSplit(kept["name"], kept["rule"], kept["sides"])
        fits = kept["schema"] == _SCHEMA and split.name == name and bool(_places(split.sides))
    except (ValueError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise SplitError(
            f"split.name={name}: {_file(address, name)} is damaged or of another version: delete it, or "
            "give another name."
        )
    return split


def kept_names(address: str) -> list[str]:
    """Names of the splits of a local store; of a remote one nobody can tell."""
    if is_remote(address):
        return []
    names = (path.stem for path in (Path(address) / FOLDER).glob("*.json"))
    return sorted(name for name in names if is_split_name(name))


def _has(address: str, split: NamedSplit) -> bool:
    """Whether a store keeps this split, and no other under its name."""
    kept = read_split(address, split.name)
    if kept and (found := kept.differences(split.sides)):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise SplitError(
            f"split.name={split.name} is taken by another split in {_file(address, split.name)}: "
            f"{found[0]}{more}; it was made by {_said(kept.rule)}, this by {_said(split.rule)}. Give "
            f"another split.name, or choose split=named split.name={split.name} for the kept one."
        )
    return kept is not None


def _write(path: Path, split: NamedSplit) -> None:
    """Whole or not at all, and never over what another process wrote meanwhile."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".draft-{platform.node()}-{os.getpid()}")
    content = {"schema": _SCHEMA, **split._asdict()}
    try:
        draft.write_text(_GROUP, encoding="utf-8")
        draft.replace(path.with_name(f"{_MARK}.json"))
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        try:
            os.link(draft, path)  # unlike a renaming, refuses a path that is taken
        except FileExistsError:
            return
        except OSError:  # a file system without links
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read(address: str, name: str) -> bytes | None:
    remote = connect(address)
    if remote:
        found = sync(remote.get(f"{FOLDER}/{name}.json", default_buffer_prototype()))
        return None if found is None else found.to_bytes()
    try:
        return _path(address, name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SplitError(
            f"split.name={name}: {_path(address, name)} cannot be read: {in_one_line(error)}. Mend its "
            "permissions, or give another name."
        ) from error


def _path(address: str, name: str) -> Path:
    return Path(address) / FOLDER / f"{name}.json"


def _file(address: str, name: str) -> str:
    return f"{address}/{FOLDER}/{name}.json"


def _places(sides: Sides) -> dict[str, tuple[str, str]]:
    """Tissue -> side and digest."""
    return {t: (side, digest) for side, tissues in sides.items() for t, digest in tissues.items()}


def _difference(tissue: str, kept: tuple[str, str] | None, now: tuple[str, str] | None) -> str:
    if kept is None or now is None:
        return f"tissue {tissue} is {'new' if kept is None else 'gone'}"
    if kept[0] != now[0]:
        return f"tissue {tissue} is in {kept[0]} there and in {now[0]} here"
    return f"tissue {tissue} has other pixels than it had"


def _said(rule: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in rule.items())
