"""Processes that decode and measure while this one goes on; or this one alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from types import FrameType
from typing import Any


class Inline(Executor):
    """Does at once what is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call it; what it raises is raised when its result is asked for."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def worker_pool(count: int) -> Iterator[Executor]:
    """Some worker processes that know nothing of this one's threads and devices; 0: none.

    They end with this process, however it ends. When it is told to end (SIGTERM, as clusters and
    containers do) what it was making is removed first, as after an error.
    """
    told = _end_on_sigterm()
    try:
        if count == 0:
            yield Inline()
            return
        # Spawned, not forked: torch has threads here, and a fork would inherit their locks.
        pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_begin)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        if told is not None:
            signal.signal(signal.SIGTERM, told)


def default_count() -> int:
    """A process for every CPU but the one that feeds the network."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max((usable or 1) - 1, 1)


def _begin() -> None:
    """Ctrl-C is for the command, which ends its workers; and so does its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # likewise of a cluster, which tells all
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for work for ever: it holds both ends of the pipe it comes through."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _end_on_sigterm() -> Any:
    """Make SIGTERM an exit that cleans up; what it was before, None where it cannot be changed."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    return signal.signal(signal.SIGTERM, end)
