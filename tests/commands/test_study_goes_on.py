"""A study that is killed while it trains: the run goes on where it was, unless its recipe is another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command

RUN = ("+debug=fast", "logger=csv", "epochs=3", "seed=0", "split.fold=1")
CUT = ("state.every_s=0", "trainer.limit_train_batches=6")
STUDY = ("-m", "+study=decoders", "study.arm=baseline", *RUN, *CUT, "hydra/launcher=basic")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, demo_cache: Path) -> Path:
    """A folder with a study whose only run was killed, with its sweep, when it had left two states."""
    folder = tmp_path_factory.mktemp("cut")
    command = [sys.executable, "-m", "tissueseg.train", *STUDY]
    with subprocess.Popen(command, cwd=folder, start_new_session=True) as process:
        state = folder / "runs/studies/decoders-demo/baseline/fold_1-seed_0/state"
        while process.poll() is None and len(list(state.glob("step_*.ckpt"))) < 2:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return folder


def again(cut: Path, place: Path, command: Command, patch: pytest.MonkeyPatch, *words: str) -> Path:
    """Start the study again in a copy; its run."""
    shutil.copytree(cut, place)
    patch.chdir(place)
    assert command("train", *STUDY, *words).code == 0
    return place / "runs/studies/decoders-demo/baseline/fold_1-seed_0"


def record(run: Path) -> dict[str, Any]:
    return json.loads((run.parents[1] / "jobs/baseline.fold_1-seed_0.json").read_text())


def said(run: Path) -> str:
    assert record(run)["state"] == "finished"
    return (run.parents[1] / "jobs/baseline.fold_1-seed_0.log").read_text()


def test_its_run_goes_on_and_ends_as_if_it_had_never_stopped(
    cut: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = again(cut, tmp_path / "same", command, monkeypatch)
    assert "goes on after step_" in said(run)
    assert command("train", f"run_dir={tmp_path / 'whole'}", *record(run)["words"]).code == 0
    whole = (tmp_path / "whole/metrics.csv").read_text()
    assert len(whole.splitlines()) == 4
    assert (run / "metrics.csv").read_text() == whole


def test_another_recipe_begins_anew(
    cut: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = again(cut, tmp_path / "other", command, monkeypatch, "optim.optimizer.lr=1e-4")
    assert "goes on" not in said(run)


def test_a_state_of_other_tissues_is_not_gone_on_with(
    cut: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cut, tmp_path / "changed")
    path = next((tmp_path / "changed").glob("runs/studies/*/baseline/*/environment.json"))
    about = json.loads(path.read_text())
    about["digests"] = dict.fromkeys(about["digests"], "another")
    path.write_text(json.dumps(about))
    run = again(tmp_path / "changed", tmp_path / "other tissues", command, monkeypatch)
    assert "goes on" not in said(run)
