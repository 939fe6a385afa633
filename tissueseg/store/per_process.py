"""What each process makes for itself: open files, connections and threads do not survive a fork."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class PerProcess(Generic[Value]):
    """Gives one value per process; safe to pickle, to use after a fork and to share between threads.

    Without a lock: another thread might hold it while this process is forked, and no one would ever
    release it in the child.

    Args:
        make: the value, when a process first asks for it; goes into pickles in its stead. Threads that
            ask at once may each make one, of which all are given the same.
    """

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._made: dict[int, Value] = {}

    def __call__(self) -> Value:
        """The value of this process."""
        process = os.getpid()
        if process in self._made:
            return self._made[process]
        value = self._made.setdefault(process, self._make())
        for parent in set(self._made) - {process}:
            self._made.pop(parent, None)  # else what it held stays open here
        return value

    def __reduce__(self) -> tuple[type[PerProcess[Value]], tuple[Callable[[], Value]]]:
        return PerProcess, (self._make,)
