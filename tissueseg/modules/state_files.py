"""The state of a training on disk: two generations of it, each whole or not there.

A file's name holds the checksum of its bytes, so that one file, renamed into place, is all there is to
write, and damage is found before anything is made of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from google_crc32c import Checksum
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from tissueseg.errors import RunFolderError, in_one_line

_NAME = re.compile(r"step_(?P<step>\d{9})-(?P<crc>[0-9a-f]{8})\.ckpt")
_KEPT = 2
_AT_A_TIME = 1 << 22  # bytes


class StateFile(NamedTuple):
    """One generation."""

    step: int  # of the optimizer
    crc: str
    path: Path


class StateFiles(CheckpointIO):
    """Where Lightning keeps the state of a training, in place of its own single file.

    `torch.load` is called with `weights_only=True`: a state holds numbers, words and tensors.

    Args:
        folder: of the states; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any = None, storage_options: Any = None
    ) -> None:
        """Write a generation, and remove those before the last two.

        Raises:
            RunFolderError: the disk does not take it; those before stay.
        """
        partial = self.folder / f".{os.getpid()}.partial"
        try:
            self.folder.mkdir(exist_ok=True)  # no parents: a run folder that is gone stays gone
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            name = f"step_{checkpoint['global_step']:09d}-{_crc(partial)}.ckpt"
            partial.replace(self.folder / name)
        # Torch's own writer raises RuntimeError for a full disk.
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise RunFolderError(
                f"{self.folder} does not take the state of the training ({in_one_line(error)}): make "
                "room there. The states before are kept."
            ) from error
        for old in [*self._found()][_KEPT:]:
            old.path.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a generation onto the CPU.

        Raises:
            RunFolderError: it is damaged, or no state.
        """
        try:
            match = _NAME.fullmatch(Path(path).name)
            if match is None or _crc(Path(path)) != match["crc"]:
                raise ValueError("checksum")
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # there is no end to the ways a damaged pickle fails
            raise RunFolderError(f"{path} is damaged: remove it.") from error

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a generation."""
        Path(path).unlink(missing_ok=True)

    def recover(self) -> tuple[Path | None, list[str]]:
        """The newest state that is whole, and a line on each that is not: these are removed.

        For the process alone that holds the run: it removes what others, killed, were writing, too.
        """
        for partial in self.folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        damaged = []
        for found in self._found():
            try:
                whole = _crc(found.path) == found.crc
            except OSError as error:
                damaged.append(f"{found.path.name} cannot be read ({error.strerror})")
                continue
            if whole:
                return found.path, damaged
            damaged.append(f"{found.path.name} is damaged")
            found.path.unlink(missing_ok=True)
        return None, damaged

    def _found(self) -> Iterator[StateFile]:
        """All generations, the newest first; of one step the one that was written last."""
        matches = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("step_*.ckpt"))
        files = [StateFile(int(m["step"]), m["crc"], path) for m, path in matches if m]
        return iter(sorted(files, key=lambda f: (f.step, f.path.stat().st_mtime_ns), reverse=True))


def _crc(path: Path) -> str:
    found = Checksum()
    with path.open("rb") as file:
        while part := file.read(_AT_A_TIME):
            found.update(part)
    return found.digest().hex()
