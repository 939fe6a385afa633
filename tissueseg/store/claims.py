"""Claims say which worker is at which tissue, among all that share a folder.

They are files, because `flock` does not reach from node to node on every cluster's file system, whereas
creating a file that must not exist yet does. A claim is `<name>/<generation>.claim`, and generations only
grow: to take a name is to create the next one, to release it is to rename one's own to `.free`, and
nobody removes the newest. So a worker that decides by what it saw a while ago creates a number that is
not the newest, finds that out when it looks again, and withdraws; whoever holds the newest is not
disturbed by it for a moment. Were numbers to begin anew after a release, both would hold the name: a
name's folder stays, and who takes all of them away must hold every name.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.checks import is_plain_name
from tissueseg.store.processes import began, host, runs

_FILE = re.compile(r"(?P<generation>[1-9][0-9]*)\.(?P<state>claim|free)")
_ATTEMPTS = 3  # to take a name; each one that fails means that another worker was faster
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Claims:
    """Who is at which tissue, among all workers that share a folder.

    A released name may be taken again: after taking one, look whether its work is done already.

    Args:
        folder: of the claims, made when missing; for every name, a small file stays in it.
        patience_s: a claim of another host is dead when no heartbeat touched it for so long; one of
            this host is when its process is.
        beat_s: between two heartbeats.

    Raises:
        ConfigError: heartbeats so rare that living workers would be taken for dead.
        TissueDataError: the folder cannot be made.
    """

    def __init__(self, folder: Path, patience_s: float = 120.0, beat_s: float = 15.0) -> None:
        if not 0 < 2 * beat_s <= patience_s:
            raise ConfigError(
                f"claims have beat_s={beat_s:g} and patience_s={patience_s:g}, wanted two heartbeats or "
                "more within the patience: lower beat_s or raise patience_s."
            )
        self.folder, self._patience_s = folder, patience_s
        self._held: set[Claim] = set()  # shared with the heartbeat: adding, discarding and tuple()
        self._closed = threading.Event()  # are one step each
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._heart = threading.Thread(target=self._beat, args=(beat_s,), daemon=True)
        self._heart.start()

    def take(self, name: str) -> Claim | None:
        """Claim a tissue; None: a living worker holds it, be it this one.

        Raises:
            TissueDataError: not the name of a tissue, or the disk refuses.
        """
        if self._closed.is_set():
            raise RuntimeError(f"claims in {self.folder} are closed: take before close().")
        if not is_plain_name(name):
            raise TissueDataError(f"tissue {name!r} has no plain name, as claims want: rename it.")
        turns = self.folder / name
        with _disk_errors(self.folder):
            turns.mkdir(exist_ok=True)  # no parents: once all are removed, none is taken
        with _disk_errors(turns):
            for _ in range(_ATTEMPTS):
                newest = _newest(turns)
                if not newest.free and not self._is_dead(newest.path):
                    return None
                if claim := self._begin(turns, newest.generation + 1):
                    return claim
        return None

    def held_here(self, name: str) -> bool:
        """Whether a process of this host holds a tissue; of others' it takes patience to know.

        Raises:
            TissueDataError: the disk refuses.
        """
        with _disk_errors(self.folder):
            newest = _newest(self.folder / name)
            found = None if newest.free else _read(newest.path)
        return bool(found and found.worker and found.worker.host == host())

    def close(self) -> None:
        """Release what is held, and stop the heartbeat."""
        self._closed.set()
        self._heart.join()
        for claim in tuple(self._held):
            claim.release()

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, turns: Path, generation: int) -> Claim | None:
        """Create a generation and hold it, if it is the newest."""
        claim = Claim(self._held, turns / f"{generation}.claim")
        if not claim._create():
            return None
        if not claim.held():  # what was seen before is history: a newer one is there
            if claim._is_ours():
                claim.path.unlink(missing_ok=True)
            return None
        self._held.add(claim)
        for older in (m.path for m in _marks(turns) if m.generation < generation):
            with suppress(OSError):  # another user's in a sticky folder may stay: nobody asks it
                older.unlink()
        return claim

    def _beat(self, beat_s: float) -> None:
        while not self._closed.wait(beat_s):
            for claim in tuple(self._held):
                with suppress(OSError):  # lost, which held() tells, or better luck at the next
                    os.utime(claim.path)

    def _is_dead(self, path: Path) -> bool:
        found = _read(path)
        if found is None:  # renamed or removed since: creating the next one shows what came of it
            return True
        if (worker := found.worker) and worker.host == host() and os.name == "posix":
            return not runs(worker.pid, worker.start)
        return _server_time_s(path.parent) - found.touched_s > self._patience_s


class Claim:
    """A tissue that is this worker's, until it releases it or is thought dead; `Claims` makes it."""

    def __init__(self, held: set[Claim], path: Path) -> None:
        self.path = path
        self._held, self._nonce = held, uuid4().hex

    def held(self) -> bool:
        """Whether it is ours still; False: another worker took over, and our work must be thrown away.

        Ask right before publishing what was made.

        Raises:
            TissueDataError: the disk does not tell.
        """
        with _disk_errors(self.path.parent):
            return self._is_ours() and _newest(self.path.parent).path == self.path

    def release(self) -> None:
        """Let others take the tissue; does nothing to the claim of one that took over."""
        self._held.discard(self)
        if self.held():
            with _disk_errors(self.path.parent), suppress(FileNotFoundError):  # just taken over
                self.path.rename(self.path.with_suffix(".free"))

    def _create(self) -> bool:
        """Make the file, if there is none of this generation: whole, as nobody can judge half a one."""
        worker = _Worker(host(), os.getpid(), began(os.getpid()), self._nonce)
        draft = self.path.with_name(f".{self._nonce}.draft")
        try:
            draft.write_text(json.dumps(worker._asdict()), encoding="utf-8")
            return _linked(draft, self.path)
        finally:
            draft.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        found = _read(self.path)
        return bool(found and found.worker and found.worker.nonce == self._nonce)


class _Mark(NamedTuple):
    """One turn of a name; of one generation, free comes after claimed."""

    generation: int
    free: bool
    path: Path


class _Worker(NamedTuple):
    """What a claim says of its holder."""

    host: str
    pid: int
    start: int | None  # of the process; tells a pid that was given out again
    nonce: str  # of this claim


class _Found(NamedTuple):
    """What a claim's file holds."""

    worker: _Worker | None  # None: half written
    touched_s: float  # by the file server's clock


def _linked(draft: Path, path: Path) -> bool:
    """Give a file a name that only one of all can take; False: it is taken."""
    with suppress(FileExistsError):
        try:
            path.hardlink_to(draft)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with path.open("xb") as file:
                file.write(draft.read_bytes())
        return True
    return False


def _marks(turns: Path) -> Iterator[_Mark]:
    for path in turns.iterdir():
        if match := _FILE.fullmatch(path.name):
            yield _Mark(int(match["generation"]), match["state"] == "free", path)


def _newest(turns: Path) -> _Mark:
    return max(_marks(turns), default=_Mark(0, True, turns))


def _server_time_s(folder: Path) -> float:
    """Now, by the clock that sets the claims' times; this host's may be minutes away from it."""
    clock = folder / f".clock-{uuid4().hex}"
    try:
        clock.touch(exist_ok=False)
        return clock.stat().st_mtime
    finally:
        clock.unlink(missing_ok=True)


def _read(path: Path) -> _Found | None:
    """Content and age of a claim; None: not there any more."""
    try:
        with path.open("rb") as file:  # network file systems ask the server for the age then
            content, touched_s = file.read(), os.fstat(file.fileno()).st_mtime
        return _Found(_Worker(**json.loads(content)), touched_s)
    except (ValueError, TypeError):
        return _Found(None, touched_s)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TissueDataError(
            f"{folder} cannot hold claims ({error.strerror or error}): make it a folder that can be "
            "written to, free space on its disk or choose another."
        ) from error
