"""Processes that share a folder of results: each thing by one of them, nothing by two."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tissueseg import workers
from tissueseg.errors import TissueDataError
from tissueseg.ranks import start_ranks
from tissueseg.workers import CLAIMS, SharedFolder, TakenOverError, job_name, shared_console


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times that would have been waited for."""
    found: list[float] = []

    def sleep(seconds: float) -> None:
        found.append(seconds)
        assert len(found) < 5, "waits for what does not come"

    monkeypatch.setattr(workers, "time", SimpleNamespace(sleep=sleep))
    return found


class Made:
    """What one process makes, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def is_done(self, name: str) -> bool:
        return name in self.names

    def make(self, name: str, claim: Any) -> None:
        self.names.append(name)


def test_each_is_made_once_by_whoever_takes_it_first(tmp_path: Path) -> None:
    with SharedFolder(tmp_path / "out") as one, SharedFolder(tmp_path / "out") as two:
        made = Made()

        def make(name: str, claim: Any) -> None:
            if name == "b":  # while the other goes through all of them
                assert two.share("abc", made.is_done, made.make, waits=False) == ["b"]
            made.make(name, claim)

        assert one.share("abc", made.is_done, make, waits=True) == []
    assert made.names == ["a", "c", "b"]


def test_what_another_is_at_is_waited_for_and_made_if_it_gives_up(
    tmp_path: Path, waits: list[float]
) -> None:
    with SharedFolder(tmp_path) as one, SharedFolder(tmp_path) as two:
        made, refused = Made(), Made()

        def fail(name: str, claim: Any) -> None:
            assert two.share("ab", refused.is_done, refused.make, waits=False) == ["a"]
            raise TissueDataError("a cannot be read.")

        with pytest.raises(TissueDataError):
            one.share("ab", made.is_done, fail, waits=True)
        assert two.share("ab", refused.is_done, refused.make, waits=True) == []
    assert (refused.names, waits) == (["b", "a"], [])


def test_what_was_taken_over_is_tried_again(tmp_path: Path, waits: list[float]) -> None:
    made, lost = Made(), ["a"]

    def make(name: str, claim: Any) -> None:
        if lost:
            raise TakenOverError(lost.pop())
        made.make(name, claim)

    with SharedFolder(tmp_path) as folder:
        assert folder.share("ab", made.is_done, make, waits=True) == []
    assert (made.names, waits) == (["b", "a"], [workers._POLL_S])


def test_one_at_a_time_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with SharedFolder(tmp_path) as one, SharedFolder(tmp_path) as two:
        first = one.alone_at("x", lambda: said.append("one waits"))
        first.__enter__()
        sleep: Callable[[float], Any] = lambda seconds: first.__exit__(None, None, None)  # noqa: E731
        monkeypatch.setattr(workers, "time", SimpleNamespace(sleep=sleep))
        with two.alone_at("x", lambda: said.append("two waits")):
            said.append("two")
    assert said == ["two waits", "two"]


def test_the_last_that_leaves_takes_claims_and_empty_folders_away(tmp_path: Path) -> None:
    out = tmp_path / "new/out"
    with SharedFolder(out):
        with SharedFolder(out):
            assert (out / CLAIMS).is_dir()
        assert (out / CLAIMS).is_dir()  # the first is still there
    assert list(tmp_path.iterdir()) == []


def test_results_stay_and_so_does_what_was_there(tmp_path: Path) -> None:
    with SharedFolder(tmp_path / "out"):
        (tmp_path / "out/cells").mkdir()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cells"]
    shutil.rmtree(tmp_path / "out/cells")
    with SharedFolder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").is_dir()


def test_a_process_goes_on_when_the_claims_were_taken_away(tmp_path: Path) -> None:
    made = Made()
    with SharedFolder(tmp_path) as folder:
        shutil.rmtree(tmp_path / CLAIMS)
        assert folder.share("ab", made.is_done, made.make, waits=True) == []
    assert made.names == ["a", "b"]


def test_a_folder_that_cannot_be_made_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TissueDataError, match="cannot hold claims"):
        SharedFolder(tmp_path / "file")


def test_processes_of_one_job_call_it_the_same() -> None:
    assert job_name({"TISSUESEG_WATCHED": "x", "SLURM_ARRAY_JOB_ID": "5"}) == "x"
    task = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"}
    assert job_name(task | {"SLURM_ARRAY_JOB_ID": "5"}) == "slurm-5.0"
    assert job_name(task | {"SLURM_STEP_NUM_TASKS": "2"}) == "slurm-9.0"
    assert job_name(task) != job_name(task)  # perhaps a shell, in which one calls follows another


def test_several_processes_draw_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert shared_console().is_terminal
    for key, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(key, value)
    assert not shared_console().is_terminal


WORKER = """
import os, sys, time

if os.environ["RANK"] == "0":
    os.kill(os.getpid(), int(sys.argv[1]))
time.sleep(0.3)
print("done", os.environ["RANK"], flush=True)
sys.exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize(("own", "worst"), [(0, 137), (2, 137)])
def test_the_others_go_on_when_one_is_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    own: int,
    worst: int,
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = start_ranks("worker", [str(int(signal.SIGKILL)), str(own)], 3, together=False)
    said = capfd.readouterr()
    assert (code, sorted(said.out.splitlines())) == (worst, ["done 1", "done 2"])
    assert said.err.startswith("error: process 1 of 3 was ended by SIGKILL")
    assert "the others go on" in said.err
