"""Processes that decode and measure while this one goes on; or this one alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
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


def worker_pool(count: int) -> Executor:
    """Some worker processes that know nothing of this one's threads and devices; 0: none."""
    if count == 0:
        return Inline()
    # Spawned, not forked: torch has threads here, and a fork would inherit their locks.
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_leave_signals)


def default_count() -> int:
    """A process for every CPU but the one that feeds the network."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max((usable or 1) - 1, 1)


def _leave_signals() -> None:
    """Ctrl-C is for the command, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
