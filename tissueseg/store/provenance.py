"""Source files as a store remembers them: size and sha256; and as a resumed writer compares them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tissueseg.errors import TissueDataError


def record(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file, or of all files of a folder with their names.

    Raises:
        TissueDataError: it is gone or cannot be read.
    """
    try:
        if path.is_file():
            return {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        hashed, size = hashlib.sha256(), 0
        for file in _inside(path):
            hashed.update(f"{file.relative_to(path).as_posix()}\0{_sha256(file)}\n".encode())
            size += file.stat().st_size
        return {"bytes": size, "sha256": hashed.hexdigest()}
    except OSError as error:
        raise TissueDataError(f"{path} cannot be read: {error.strerror or error}.") from error


class Stamps:
    """What tells changed files apart without reading them: names, sizes and times, as first seen.

    Made before a source's files are read, so that what is made of them can be told from what is made
    of files that changed meanwhile.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Path]]) -> None:
        paths = {path for named in files.values() for path in named.values()}
        self._files = files
        self._seen = {path: _look(path) for path in paths}

    def of(self, tissue: str) -> list[Any]:
        """Of all files of a tissue, in plain types."""
        return [[name, *self._seen[path]] for name, path in sorted(self._files[tissue].items())]

    def check(self, tissue: str) -> None:
        """Refuse files that are no longer what they were.

        Raises:
            TissueDataError: naming one.
        """
        for path in self._files[tissue].values():
            if _look(path) != self._seen[path]:
                raise TissueDataError(
                    f"tissue {tissue}: {path} changed while it was read: run the command again."
                )


def _look(path: Path) -> list[Any]:
    return [[str(file), *_size_and_time(file)] for file in _inside(path)]


def _inside(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1  # opening it will say more
    return status.st_size, status.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
