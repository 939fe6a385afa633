"""Commands run in this process, on a demo store drawn once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from feature_runs import write_cohort

from tissueseg.command import run_command
from tissueseg.doctor import doctor
from tissueseg.embed import embed
from tissueseg.evaluate import evaluate
from tissueseg.export import export
from tissueseg.predict import predict
from tissueseg.prepare import prepare
from tissueseg.pretrain import pretrain
from tissueseg.report import report
from tissueseg.sweep import start_apart
from tissueseg.train import train

JOBS = {
    "prepare": prepare,
    "embed": embed,
    "pretrain": pretrain,
    "train": train,
    "evaluate": evaluate,
    "doctor": doctor,
    "export": export,
    "predict": predict,
    "report": report,
}

SWEPT = ("pretrain", "train")  # each run of a sweep in a process of its own


class Result(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture(scope="session", autouse=True)
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own: the user's stays untouched."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TISSUESEG_CACHE", str(cache))
        yield cache


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command("train", "+debug=fast")` as from the shell, without the start of a process."""

    def run(name: str, *overrides: str) -> Result:
        monkeypatch.setattr(sys, "argv", [f"tissueseg.{name}", *overrides])
        try:
            run_command(name, JOBS[name], start_apart if name in SWEPT else None)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, demo_cache: Path) -> Path:
    """The folder of one small finished run, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    overrides = ["+experiment=boundary_att", "+debug=fast", "logger=csv", f"run_dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tissueseg.train", *overrides])
        run_command("train", train)
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be copied, which is far quicker than to be written."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def here(tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cohort."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cohort, tmp_path / cohort.name)
    return tmp_path
