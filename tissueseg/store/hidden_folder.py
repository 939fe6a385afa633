"""A hidden folder beside a path, in which something is made that takes the path when it is complete."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from tissueseg.store.processes import runs


class HiddenFolder:
    """Lets what was at the path stand until the new is whole.

    Args:
        path: to be taken, by a folder.
        own: of this process alone; False: of whoever writes to the path.
    """

    def __init__(self, path: Path, own: bool) -> None:
        self.path = path
        self._begin = f".{path.name}.partial"
        self._host = f"{self._begin}-{platform.node()}-"
        self.folder = path.with_name(f"{self._host}{os.getpid()}" if own else self._begin)
        self._old = path.with_name(f".{path.name}.old")
        self._made: list[Path] = []

    def make_parents(self) -> None:
        """Make the folders above the path, and remove what processes that died left beside it."""
        self._made = [p for p in (self.path.parent, *self.path.parents[1:]) if not p.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left in self.path.parent.glob(".*.partial-*"):
            process = left.name.removeprefix(self._host)
            if process != left.name and process.isdecimal() and not runs(int(process)):
                remove(left)

    def restore(self) -> None:
        """Put back what a process that died between two renames had set aside."""
        if self._old.exists() and not self.path.exists():
            self._old.rename(self.path)

    def publish(self) -> None:
        """Let the folder take the path."""
        if self.path.exists():
            remove(self._old)
            self.path.rename(self._old)
            try:
                self.folder.rename(self.path)
            except OSError:
                self._old.rename(self.path)
                raise
            remove(self._old)
        else:
            self.folder.rename(self.path)

    def discard(self) -> None:
        """Remove what was not published."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_parents(self) -> None:
        """Remove the folders that were made and hold nothing."""
        for parent in self._made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
