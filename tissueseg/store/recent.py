"""The values used last, made when they are asked for; safe to share between threads.

They are made while nobody waits: two threads that ask for the same may both make it, and both get the
value that was there first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import RLock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Keeps values by key, at most so many of them; others end when nobody uses them any more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = (
            RLock()
        )  # again by the same thread, should a value that ends here ask for another
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made when it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        with self._lock:
            value = self._values.setdefault(key, made)
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)
        return value
