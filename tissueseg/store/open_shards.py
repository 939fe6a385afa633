"""Files of shards: opened once, read without a copy, and checked against their crc32c.

A process may hold few files open, so those of many arrays are kept together. What an index says is kept
for far more shards than files: reading it anew would cost a second trip to the disk for each chunk.
"""

from __future__ import annotations

import os
import weakref
from typing import NamedTuple

import google_crc32c
import numpy as np

from tissueseg.store.recent import Recent
from tissueseg.store.shard_layout import ShardLayout

_OPEN_FILES = 256  # of the 1024 that most systems grant a process
_KEPT_INDICES = 16384  # of shards; that of 64 chunks takes 0.5 kB
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)  # only Linux has it


class DamageError(Exception):
    """What is wrong with a chunk, to follow its name in a message."""


class OpenShards:
    """What a process keeps of shards: files, and their indices.

    Safe to share between arrays and threads, to pickle and to use after a fork.

    Args:
        files: the most to stay open; those being read stay open besides.
    """

    def __init__(self, files: int = _OPEN_FILES) -> None:
        self._files = files
        self._held = _Held(files)

    def open(self, path: str) -> Shard:
        """A shard, as it is when it is first opened."""
        return self._current().shards.get(path, lambda: Shard(path))

    def starts(self, shard: Shard, layout: ShardLayout) -> np.ndarray:
        """Where a shard's chunks start; see `ShardLayout.starts`."""
        return self._current().starts.get(shard.version, lambda: shard.starts(layout))

    def _current(self) -> _Held:
        """Anew in another process; one assignment, as several threads may be the first to come."""
        held = self._held
        if held.pid != os.getpid():
            held = self._held = _Held(self._files)
        return held

    def __reduce__(self) -> tuple[type[OpenShards], tuple[int]]:
        return OpenShards, (self._files,)


class _Held:
    """What one process holds."""

    def __init__(self, files: int) -> None:
        self.pid = os.getpid()
        self.shards: Recent[str, Shard] = Recent(files)
        self.starts: Recent[Version, np.ndarray] = Recent(_KEPT_INDICES)


class Version(NamedTuple):
    """What tells a shard from another that takes its path."""

    path: str
    inode: int
    size: int
    modified_ns: int


class Shard:
    """An open file, closed when the last thread that reads it has let go."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        self.version = Version(path, status.st_ino, status.st_size, status.st_mtime_ns)

    def announce(self, start: int, size: int) -> None:
        """Have the disk fetch a range while others are read, unless it is in memory.

        Its middle tells whether it is, as neighbours share the pages at its ends. To announce what is
        there costs a tenth of the time that reading it takes.
        """
        if hasattr(os, "posix_fadvise") and not self._is_cached(start + size // 2):
            os.posix_fadvise(self._descriptor, start, size, os.POSIX_FADV_WILLNEED)

    def _is_cached(self, at: int) -> bool:
        try:
            return _NOWAIT > 0 and os.preadv(self._descriptor, [bytearray(1)], at, _NOWAIT) == 1
        except OSError:  # it is not, or the file system cannot tell
            return False

    def read(self, start: int, out: np.ndarray, checksum: bool) -> None:
        """Fill (n,) bytes from an offset on, and compare them with the crc32c behind them, if any.

        Raises:
            DamageError: the file ends before, or the bytes are not those that were written.
        """
        stored = bytearray(4 * checksum)
        if os.preadv(self._descriptor, [out.data, stored], start) < len(out) + len(stored):
            raise DamageError("reaches beyond the end of the file")
        if checksum and google_crc32c.value(out) != int.from_bytes(stored, "little"):
            raise DamageError("does not match its checksum")

    def starts(self, layout: ShardLayout) -> np.ndarray:
        """Where the chunks start, as the index says.

        Raises:
            DamageError: the index is not there or not the one that was written.
        """
        missing_bytes = layout.index_bytes - self.version.size
        if missing_bytes > 0:
            raise DamageError(f"is in no index, as the file ends after {self.version.size} bytes")
        index = np.empty(layout.index_bytes - 4 * layout.index_sum, np.uint8)
        try:
            self.read(0 if layout.index_first else -missing_bytes, index, layout.index_sum)
        except DamageError as error:
            raise DamageError(f"cannot be found, as the index {error}") from None
        return layout.starts(index.view("<u8").reshape(-1, 2), self.version.size)
