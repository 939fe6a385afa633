"""Processes that do one job: found where others started them, started here, ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stores import compose

from tissueseg.errors import ConfigError
from tissueseg.ranks import Rank, _free_port, begin_ranks, check_ranks, start_ranks
from tissueseg.ranks import this_rank as found_rank

JOB = """
import os, signal, sys, time
from pathlib import Path
rank = int(os.environ["RANK"])
here = Path(os.environ["PYTHONPATH"])
if len(sys.argv) > 2:
    signal.signal(signal.SIGTERM, lambda *_: (here / f"heard_{rank}").open("a").write("x"))
(here / f"place_{rank}").write_text(" ".join(
    os.environ[key] for key in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "LOCAL_WORLD_SIZE")
))
(here / f"pid_{rank}").write_text(str(os.getpid()))
what = sys.argv[1].split(",")[rank]
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wait":
    until = time.monotonic() + 60
    while time.monotonic() < until and not (here / "go").exists():
        time.sleep(0.01)
    sys.exit(0 if (here / "go").exists() else 9)
sys.exit(int(what))
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Start a job of some seconds in two processes; what each shall do, by rank."""
    (tmp_path / "job_of_ranks.py").write_text(JOB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda *words: start_ranks("job_of_ranks", words, 2)


def test_processes_are_told_their_places(start: Callable[..., int], tmp_path: Path) -> None:
    assert start("0,0") == 0
    places = [(tmp_path / f"place_{rank}").read_text() for rank in range(2)]
    assert places == ["2 0 127.0.0.1 2", "2 1 127.0.0.1 2"]


@pytest.mark.parametrize(("codes", "code"), [("0,2", 2), ("130,0", 130), ("3,3", 3)])
def test_the_job_ends_as_badly_as_one_of_them(
    start: Callable[..., int], capsys: pytest.CaptureFixture[str], codes: str, code: int
) -> None:
    assert start(codes) == code
    assert capsys.readouterr().err == ""  # it has spoken for itself


@pytest.mark.parametrize(("what", "number"), [("wait,kill", 2), ("kill,wait", 1)])
def test_when_one_is_killed_the_others_are_ended(
    start: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
    number: int,
) -> None:
    monkeypatch.setattr("tissueseg.ranks._PATIENCE_S", 0.2)
    assert start(what) == 128 + signal.SIGKILL
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"error: process {number} of 2 was ended by SIGKILL, as systems do")
    for rank in range(2):
        if (pid := tmp_path / f"pid_{rank}").exists():
            assert not Path(f"/proc/{pid.read_text()}").exists()


def test_those_that_are_left_may_end_by_themselves(
    start: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    assert start("wait,5") == 5


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def when(reached: Callable[[], bool], then: Callable[[], Any]) -> threading.Thread:
    """Do something once something else is so, while the test waits for processes."""

    def watch() -> None:
        until = time.monotonic() + 60
        while not reached() and time.monotonic() < until:
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.usefixtures("sigterm")
def test_a_signal_is_passed_on_once_and_the_job_goes_on(
    start: Callable[..., int], tmp_path: Path
) -> None:
    def both(name: str) -> bool:
        return all((tmp_path / f"{name}_{rank}").exists() for rank in range(2))

    def send() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        when(lambda: both("heard"), (tmp_path / "go").touch).join()

    thread = when(lambda: both("pid"), send)
    assert start("wait,wait", "listen") == 0
    thread.join()
    assert [(tmp_path / f"heard_{rank}").read_text() for rank in range(2)] == ["x", "x"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_free_port_can_be_had() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", _free_port()))


TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "12345",
}
SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODELIST": "node[07-08]",
    "SLURM_JOB_NODELIST": "node[07-08]",
}


def test_torchrun_names_the_place() -> None:
    assert found_rank(TORCHRUN) == Rank(5, 8, 1, "node0", 12345)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Environment of a step of SLURM, and what Lightning adds to it taken back."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        for key in ("MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(key, None)
        os.environ.update(SLURM)
        yield


@pytest.mark.usefixtures("step")
def test_a_step_of_slurm_names_the_place() -> None:
    rank = found_rank(SLURM)
    assert rank is not None
    assert rank[:4] == (3, 4, 1, "node07")
    others = [found_rank(SLURM | {"SLURM_PROCID": str(n)}) for n in range(4)]
    assert {other.port for other in others if other} == {rank.port}
    assert rank.port > 1024


@pytest.mark.usefixtures("step")
def test_a_step_that_says_no_tasks_per_node_is_refused() -> None:
    del os.environ["SLURM_NTASKS_PER_NODE"]
    with pytest.raises(ConfigError, match="Use `--ntasks-per-node=4` instead"):
        found_rank(SLURM)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"},  # a script that is no step
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # as submitit starts
        {"RANK": "0", "WORLD_SIZE": "2"},  # a pod of a training operator
    ],
)
def test_nobody_started_it_as_one_of_several(environment: dict[str, str]) -> None:
    assert found_rank(environment) is None


def test_a_step_s_place_wants_no_torch(tmp_path: Path) -> None:
    code = "import sys, tissueseg.ranks as r; r.this_rank({}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(("devices", "nodes", "of"), [(2, 1, 2), (2, 2, 4), (1, 1, 1)])
def test_as_many_processes_as_configured(devices: int, nodes: int, of: int) -> None:
    config = compose(f"trainer.devices={devices}", f"trainer.num_nodes={nodes}")
    check_ranks(config, Rank(0, of), devices)
    with pytest.raises(ConfigError, match=rf"make {devices * nodes}: with SLURM .*trainer=slurm"):
        check_ranks(config, Rank(0, of + 1), devices)


def test_machines_without_a_starter_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.num_nodes=2: start the command on every"):
        begin_ranks("tissueseg.train", compose("trainer.num_nodes=2"))


def test_one_device_is_one_process() -> None:
    assert begin_ranks("tissueseg.train", compose()) is None


def test_one_process_that_was_started_as_one_of_one_is_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(key, value)
    assert begin_ranks("tissueseg.train", compose()) is None
