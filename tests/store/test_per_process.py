"""One value for each process: for all its threads, and none that another process made."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import weakref
from functools import partial
from typing import Any

import pytest

from tissueseg.store.per_process import PerProcess


class Opened:
    """Something that must not leave its process."""

    def __init__(self, name: str) -> None:
        self.name, self.process = name, os.getpid()

    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


def test_it_is_made_once_and_only_when_asked_for() -> None:
    made: list[int] = []
    held = PerProcess(lambda: made.append(1) or len(made))
    assert not made
    assert (held(), held()) == (1, 1)


def test_threads_that_ask_at_once_get_the_same() -> None:
    together = threading.Barrier(4)

    def make() -> Opened:
        together.wait(20)  # all make one
        return Opened("a")

    held, found = PerProcess(make), []
    threads = [threading.Thread(target=lambda: found.append(held())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 4
    assert all(value is held() for value in found)


def test_a_pickle_makes_its_own() -> None:
    held = PerProcess(partial(Opened, "a"))
    mine = held()
    copied = pickle.loads(pickle.dumps(held))
    assert copied().name == "a"
    assert copied() is copied()
    assert copied() is not mine


def tell(held: PerProcess[Opened], parents: weakref.ref[Opened], pipe: Any) -> None:
    process = held().process
    pipe.send((process, os.getpid(), parents() is None))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_makes_its_own_and_lets_go_of_its_parents() -> None:
    held = PerProcess(partial(Opened, "a"))
    held()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=tell, args=(held, weakref.ref(held()), there))
    child.start()
    try:
        assert here.poll(30)
        process, its_own, let_go = here.recv()
    finally:
        child.join(30)
        child.kill()
    assert process == its_own == child.pid
    assert let_go
    assert held().process == os.getpid()
