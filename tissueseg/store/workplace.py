"""Where a store is written: tissue by tissue, with a note of each that is complete, by one process."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import zarr

from tissueseg.errors import TissueDataError
from tissueseg.store.hidden_folder import HiddenFolder, remove

try:
    import fcntl
except ImportError:  # not a POSIX system: two writers of one store are then the user's to avoid
    fcntl = None

_RECIPE = "recipe.json"


class Workplace:
    """Where tissues are written until all of them are there.

    Args:
        path: of the store to be.
        keep: leave finished tissues for the next writer when this one fails or dies.
    """

    def __init__(self, path: Path, keep: bool) -> None:
        self.path, self._keep = path, keep
        self._hidden = HiddenFolder(path, own=not keep)
        self.folder = self._hidden.folder
        self._about = self.folder.with_name(f"{self.folder.name}.notes")  # beside, not inside, so
        self._notes = (
            self._about / "finished"
        )  # that it outlives a failure to take the store's place
        self._lock_file = path.with_name(f".{path.name}.lock")
        self._lock: IO[str] | None = None
        self._mine = False
        self.finished: dict[str, dict[str, Any]] = {}
        """Tissue -> note, of those an earlier writer left."""

    def open(self, recipe: str) -> None:
        """Make the folder, or take over what a writer of the same recipe left.

        Raises:
            TissueDataError: another process is at it.
            OSError: cannot be written.
        """
        try:
            self._hidden.make_parents()
            self._acquire()
            self._mine = True
            self._hidden.restore()
            if not (self._keep and self._take_over(recipe)):
                self._begin(recipe)
        except BaseException:
            self.close()
            raise

    def finish(self, name: str, note: dict[str, Any]) -> None:
        """Mark a tissue as complete."""
        self._write(self._notes / f"{name}.json", note)

    def settle(self, names: Collection[str]) -> zarr.Group:
        """Take away all that is not part of the store; its root."""
        for entry in self.folder.iterdir():
            if entry.name not in names and entry.name != "zarr.json":
                remove(entry)
        return zarr.open_group(self.folder, mode="r+")

    def publish(self) -> None:
        """Let the folder take the store's name."""
        self._hidden.publish()
        remove(self._about)

    def close(self) -> int:
        """Clean up after success or failure; returns how many tissues are left for the next writer."""
        left = len(self._found()) if self._mine and self._keep else 0
        if self._mine and not left:
            self._hidden.discard()
            remove(self._about)
        self._release()
        self._hidden.remove_parents()
        return left

    def _take_over(self, recipe: str) -> bool:
        try:
            known = json.loads((self._about / _RECIPE).read_text(encoding="utf-8"))
            if known != recipe:
                return False
            notes = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in self._found()}
        except (OSError, ValueError):
            return False
        self.finished = {
            name: note for name, note in notes.items() if (self.folder / name).is_dir()
        }
        return True

    def _begin(self, recipe: str) -> None:
        remove(self.folder)
        remove(self._about)
        zarr.open_group(self.folder, mode="w")
        self._notes.mkdir(parents=True)
        self._write(self._about / _RECIPE, recipe)

    def _found(self) -> list[Path]:
        return sorted(self._notes.glob("*.json"))

    def _write(self, path: Path, value: Any) -> None:
        """Whole or not at all."""
        draft = path.with_name(f"{path.name}.draft")
        draft.write_text(json.dumps(value), encoding="utf-8")
        draft.replace(path)

    def _acquire(self) -> None:
        if fcntl is None or not self._keep:
            return
        self._lock = self._lock_file.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._lock.fileno()), self._lock_file.stat()):
                raise BlockingIOError("given up by another process just now")
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise TissueDataError(
                f"another process is writing {self.path} at this moment: wait for it or choose another "
                "path."
            ) from error

    def _release(self) -> None:
        if self._lock is not None:
            self._lock_file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None
