"""Values kept by key: made at the same time by several threads, one of them for all, few at once."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tissueseg.store.recent import Recent

TIMEOUT_S = 30  # of a barrier that is never filled


class Value:
    """Something to be told apart from others, and to be missed."""


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [job.result() for job in [pool.submit(task) for task in tasks]]


def test_values_of_different_keys_are_made_at_the_same_time() -> None:
    kept: Recent[str, int] = Recent(4)
    barrier = threading.Barrier(3)

    def make() -> int:
        return barrier.wait(TIMEOUT_S)  # returns only while all three are being made

    made = at_once(*(lambda key=key: kept.get(key, make) for key in "abc"))
    assert sorted(made) == [0, 1, 2]
    assert [kept.get(key, make) for key in "abc"] == made


def test_threads_that_make_the_same_at_once_share_one_and_the_others_go() -> None:
    kept: Recent[str, Value] = Recent(4)
    barrier, made = threading.Barrier(4), []

    def make() -> Value:
        barrier.wait(TIMEOUT_S)
        made.append(weakref.ref(value := Value()))
        return value

    got = at_once(*[lambda: kept.get("a", make)] * 4)
    assert len(made) == 4
    assert {id(value) for value in got} == {id(kept.get("a", make))}
    del got
    gc.collect()
    assert sum(value() is not None for value in made) == 1


def test_a_kept_value_is_there_while_another_is_being_made() -> None:
    kept: Recent[str, str] = Recent(4)
    kept.get("a", lambda: "made before")
    begun, looked = threading.Event(), threading.Event()

    def make() -> str:
        begun.set()
        assert looked.wait(TIMEOUT_S)
        return "made slowly"

    def look() -> str:
        assert begun.wait(TIMEOUT_S)
        try:
            return kept.get("a", lambda: "made anew")
        finally:
            looked.set()

    assert at_once(lambda: kept.get("b", make), look) == ["made slowly", "made before"]


def test_the_one_not_used_for_longest_goes_first() -> None:
    kept: Recent[str, Value] = Recent(2)
    a, b = kept.get("a", Value), kept.get("b", Value)
    assert kept.get("a", Value) is a
    c = kept.get("c", Value)
    assert (kept.get("a", Value), kept.get("c", Value)) == (a, c)
    assert kept.get("b", Value) is not b


def test_what_could_not_be_made_is_made_when_asked_for_again() -> None:
    kept: Recent[str, float] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 / 0)
    assert kept.get("a", lambda: 2.0) == 2.0
