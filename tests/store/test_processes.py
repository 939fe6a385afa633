"""Processes that run, that have ended, and that were given the id of another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tissueseg.store.processes import WITH, began, host, runs

untold = pytest.mark.skipif(
    began(os.getpid()) is None, reason="the system does not tell when processes began"
)


def test_this_process_runs_and_so_does_its_parent() -> None:
    for pid in (os.getpid(), os.getppid()):
        assert runs(pid)
        assert runs(pid, began(pid))


def test_a_process_that_has_ended_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not runs(process.pid)


@untold
def test_a_process_nobody_has_waited_for_does_not_run() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.kill(process.pid, 0)  # its id is taken still
        assert not runs(process.pid)


@untold
def test_another_process_of_the_same_id_is_not_the_one_meant() -> None:
    here = began(os.getpid())
    assert here is not None
    assert not runs(os.getpid(), here - 1)


def test_a_host_is_called_the_same_each_time_and_in_one_line() -> None:
    assert host() == host()
    assert host().isprintable()


@untold
@pytest.mark.parametrize(("later", "ends"), [(0, False), (1, True)])
def test_one_that_has_the_id_of_the_starter_is_not_the_starter(later: int, ends: bool) -> None:
    start = began(os.getpid())
    assert start is not None
    waits = (
        "import time; from tissueseg.store.processes import end_with_starter;"
        "end_with_starter(); time.sleep(5)"
    )
    environment = os.environ | {WITH: f"{os.getpid()} {start + later} {host()}"}
    command = [sys.executable, "-c", waits]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == (-signal.SIGTERM if ends else 0)
    assert ("the process that started this one is gone" in done.stderr) == ends
