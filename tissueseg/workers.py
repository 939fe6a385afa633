"""Processes that share the tissues of a folder: each makes what no other is at.

They are started by one command (`trainer.devices`), by an array of cluster jobs or by hand, and may come
and go: what is there is kept, and what a dead one was at is taken over.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from uuid import uuid4

from rich.console import Console

from tissueseg.errors import STOPPED, TissueDataError
from tissueseg.ranks import this_rank
from tissueseg.store.claims import Claim, Claims
from tissueseg.store.processes import WATCHED

CLAIMS = ".claims"
"""Stands in the folder while a process is at it."""

_HEEDED = (signal.SIGTERM, signal.SIGUSR1)
_POLL_S = 1.0
_WORKER = "worker-"


class TakenOverError(Exception):
    """Another process has taken over what this one was at, which it took for dead."""


def shared_console() -> Console:
    """Where one of several processes prints: no bars, which would be drawn over each other."""
    return Console() if this_rank() is None else Console(force_terminal=False)


def job_name(environment: Mapping[str, str] = os.environ) -> str:
    """What all processes of one job call it, and so do those of a requeued one."""
    if watched := environment.get(WATCHED):
        return watched
    array, step = (environment.get(f"SLURM_{key}") for key in ("ARRAY_JOB_ID", "STEP_ID"))
    several = int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1
    job = array or (environment.get("SLURM_JOB_ID") if several else None)
    return f"slurm-{job}.{step}" if job else uuid4().hex


@contextmanager
def stoppable(go_on: Callable[[], None]) -> Iterator[None]:
    """Let the signals by which clusters end jobs end this one as Ctrl-C does: nothing is left half done.

    Args:
        go_on: called then by the first of several processes, to have the job begun again.
    """

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(STOPPED + number)

    here = threading.current_thread() is threading.main_thread()
    heeded = [n for n in _HEEDED if here and signal.getsignal(n) is signal.SIG_DFL]
    for number in heeded:
        signal.signal(number, end)
    try:
        yield
    except SystemExit as stop:
        if stop.code in [STOPPED + number for number in heeded] and leads():
            go_on()
        raise
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)


def leads() -> bool:
    """Whether this is the first of several processes, or alone."""
    rank = this_rank()
    return rank is None or rank.number == 0


class SharedFolder:
    """A folder of results, in which several processes may be at work.

    Leaving it, the last one takes the claims away, and what was made and is empty.

    Args:
        folder: of the results, made when missing.

    Raises:
        TissueDataError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / CLAIMS
        self._made = [p for p in (folder, *folder.parents) if not p.exists()]
        self._claims = Claims(self._folder)
        self._own = f"{_WORKER}{uuid4().hex}"
        self._presence = self._take(self._own)

    def __enter__(self) -> SharedFolder:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, TissueDataError):  # claims that stay do no harm
            self._leave()
        self._claims.close()
        for folder in self._made:
            with suppress(OSError):  # something is in it, or another process was faster
                folder.rmdir()

    def share(
        self,
        names: Sequence[str],
        is_done: Callable[[str], bool],
        make: Callable[[str, Claim], None],
        waits: bool,
    ) -> list[str]:
        """Make what is not there and nobody else is at.

        Args:
            names: of what is to be made, in the order it is tried.
            is_done: whether it is there.
            make: makes it; may raise TakenOverError.
            waits: for what others are at, at the end, to make it if they die.

        Returns:
            What others are at; with `waits`, nothing.
        """
        left = list(names)
        while left := [name for name in left if not self._settled(name, is_done, make)]:
            if not waits:
                break
            time.sleep(_POLL_S)
        return left

    @contextmanager
    def alone_at(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the only process at something, when all others are done with it.

        Args:
            name: of it.
            waiting: called once if somebody is at it.
        """
        if (claim := self._take(name)) is None:
            waiting()
        while claim is None:
            time.sleep(_POLL_S)
            claim = self._take(name)
        try:
            yield
        finally:
            claim.release()

    def _settled(
        self, name: str, is_done: Callable[[str], bool], make: Callable[[str, Claim], None]
    ) -> bool:
        """Whether something is there, by now."""
        if is_done(name):
            return True
        if (claim := self._take(name)) is None:
            return False
        try:
            if not is_done(name):  # perhaps since we looked
                make(name, claim)
        except TakenOverError:
            return False
        finally:
            claim.release()
        return True

    def _take(self, name: str) -> Claim | None:
        try:
            return self._claims.take(name)
        except TissueDataError:
            if self._folder.is_dir():
                raise
        # One that left just now has taken it away; what was claimed in it before is claimed no more.
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._claims.take(name)

    def _leave(self) -> None:
        """Take the claims away if nobody else is here.

        A process that comes right now may lose its claim: it finds that out before it publishes.
        """
        if self._presence:
            self._presence.release()
        others = [p.name for p in self._folder.glob(f"{_WORKER}*") if p.name != self._own]
        if all(self._claims.take(name) for name in others):
            self._folder.rename(self._folder.with_name(f"{CLAIMS}-{uuid4().hex}"))
            for gone in self._folder.parent.glob(f"{CLAIMS}-*"):
                shutil.rmtree(gone, ignore_errors=True)
