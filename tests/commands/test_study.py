"""`train -m +study=…`: a process a run, kept when finished, recorded when failed, resumed when killed."""

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
from stores import random_tissue, write_store

from .conftest import Command

FAST = ("+debug=fast", "logger=csv", "epochs=1", "seed=0", "split.fold=1,2")
STUDY = ("-m", "+study=decoders", *FAST)
BROKEN = '+study.arms.broken=["optim.optimizer.lr=1e30"]'
TWO = (*STUDY, "study.arm=baseline,broken", BROKEN)


def launch(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tissueseg.train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


def children(pid: int) -> list[int]:
    """Processes that one started, as its system tells."""
    told = Path(f"/proc/{pid}/task/{pid}/children")
    if not told.exists():
        pytest.skip("children are told on Linux alone")
    return list(map(int, told.read_text().split()))


def descendants(pid: int) -> list[int]:
    """Processes that one started, that these started, and so on."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def runs_on(pid: int) -> bool:
    """Whether it does more than wait for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def write_cohort_of(folder: Path, seed: int) -> Path:
    """A store of five tissues, which are other ones for every seed."""
    folder.mkdir()
    tissues = {f"t{i}": random_tissue(48, 48, 10 * seed + i) for i in range(5)}
    return write_store(folder / "cohort.zarr", tissues).path


def record(study: Path, name: str) -> dict[str, Any]:
    return json.loads((study / "jobs" / f"{name}.json").read_text())


def scores(study: Path) -> dict[str, str]:
    """Run -> its numbers, which hold no time."""
    found = sorted(study.glob("*/*/metrics.json"))
    return {str(path.parent.relative_to(study)): path.read_text() for path in found}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, demo_cache: Path) -> tuple[Path, str]:
    """Two arms of which one cannot train, on two folds, joblib two at a time; and what was said."""
    folder = tmp_path_factory.mktemp("study")
    with launch(folder, *TWO, "protocol.jobs=2") as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 2, said
    return folder / "runs/studies/decoders-demo", said


pytestmark = pytest.mark.slow


def test_a_failed_arm_is_recorded_and_the_rest_continues(study: tuple[Path, str]) -> None:
    folder, said = study
    states = {p.stem: json.loads(p.read_text())["state"] for p in (folder / "jobs").glob("*.json")}
    assert states == {
        "baseline.fold_1-seed_0": "finished",
        "baseline.fold_2-seed_0": "finished",
        "broken.fold_1-seed_0": "failed",
        "broken.fold_2-seed_0": "failed",
    }
    assert "2 runs finished" in said
    assert "error: 2 runs failed: broken.fold_1-seed_0" in said
    assert "Traceback" not in said
    assert record(folder, "broken.fold_1-seed_0")["code"] == 2
    assert "lr" in record(folder, "broken.fold_1-seed_0")["line"]


def test_every_run_has_a_log_and_words_that_make_it_again(study: tuple[Path, str]) -> None:
    folder, _ = study
    words = record(folder, "baseline.fold_2-seed_0")["words"]
    assert {"study.arm=baseline", "decoder=baseline", "encoder=tiny", "split.fold=2"} <= {*words}
    environment = json.loads((folder / "baseline/fold_2-seed_0/environment.json").read_text())
    assert environment["command"][1:-1] == words
    assert "macro foreground" in (folder / "jobs/baseline.fold_2-seed_0.log").read_text()


def test_finished_runs_are_kept_and_failed_ones_tried_again(
    study: tuple[Path, str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = study
    monkeypatch.chdir(folder.parents[2])
    before = {path: path.stat().st_mtime_ns for path in folder.glob("baseline/*/*")}
    failed = record(folder, "broken.fold_2-seed_0")
    result = command("train", *TWO, "split.fold=2", "hydra/launcher=basic")
    assert result.code == 2
    assert "0 runs finished, 1 kept" in result.out
    assert {path: path.stat().st_mtime_ns for path in folder.glob("baseline/*/*")} == before
    assert record(folder, "baseline.fold_2-seed_0")["state"] == "kept"
    assert record(folder, "baseline.fold_2-seed_0")["words"]
    again = record(folder, "broken.fold_2-seed_0")
    assert (again["state"], again["line"]) == ("failed", failed["line"])
    assert again["began"] > failed["ended"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("epochs=2",), "was made with epochs=1, now 2 is asked for"),
        (("study.resume=false",), "holds a finished run: keep it with study.resume=true"),
    ],
)
def test_a_finished_run_is_never_taken_for_another(
    study: tuple[Path, str],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    line: str,
) -> None:
    folder, _ = study
    monkeypatch.chdir(folder.parents[2])
    result = command("train", *STUDY, "study.arm=baseline", "hydra/launcher=basic", *words)
    assert result.code == 2
    assert line in result.err


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_killed_study_goes_on_and_gives_the_same_numbers(
    study: tuple[Path, str], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = study
    words = (*STUDY, "study.arm=baseline", "protocol.jobs=1")
    process = launch(tmp_path, *words)
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if "finished in" in line:
                process.send_signal(signal.SIGKILL)
                break
    cut = tmp_path / "runs/studies/decoders-demo"
    first = cut / "baseline/fold_1-seed_0/metrics.json"
    stamp = first.stat().st_mtime_ns
    assert len(scores(cut)) == 1
    monkeypatch.chdir(tmp_path)
    again = command("train", *words)
    assert again.code == 0, again.err
    assert "fold 1 seed 0: kept" in again.out
    assert first.stat().st_mtime_ns == stamp
    assert scores(cut) == scores(whole)


def test_another_store_under_the_same_words_is_noticed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = {name: write_cohort_of(tmp_path / name, seed) for seed, name in enumerate("ab")}
    words = [*STUDY[:2], "+debug=fast", "logger=csv", "epochs=1", "seed=0", "split.fold=1"]
    words += ["study.arm=baseline", "hydra/launcher=basic", "data.tile_px=32"]
    words += ["store.path=${oc.env:COHORT}", 'study.out="ü (1), x=y"']
    for name, said in (("a", "finished in"), ("a", "kept"), ("b", "store.path=")):
        monkeypatch.setenv("COHORT", str(shown[name]))
        result = command("train", *words)
        assert said in result.out, result.err
    assert result.code == 2
    monkeypatch.setenv("COHORT", str(shown["a"]))
    shutil.rmtree(shown["a"])
    shutil.copytree(shown["b"], shown["a"])
    result = command("train", *words)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "had other pixels or labels" in result.err
    assert record(tmp_path / "ü (1), x=y", "baseline.fold_1-seed_0")["state"] == "kept"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_run_that_is_killed_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, demo_cache: Path
) -> None:
    words = (*STUDY, "study.arm=baseline", "hydra/launcher=basic")
    out = tmp_path / "runs/studies/decoders-demo"
    with launch(tmp_path, *words) as process:
        until = time.monotonic() + 120
        while not (ours := children(process.pid)) and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(ours[0], signal.SIGKILL)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 2, said
    assert "ended by SIGKILL, as systems do that are out of memory" in said
    assert record(out, "baseline.fold_1-seed_0")["state"] == "failed"
    assert record(out, "baseline.fold_2-seed_0")["state"] == "finished"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_runs_end_with_their_sweep(tmp_path: Path, demo_cache: Path) -> None:
    process = launch(tmp_path, *STUDY, "study.arm=baseline", "protocol.jobs=1", "epochs=1000")
    log = tmp_path / "runs/studies/decoders-demo/jobs/baseline.fold_1-seed_0.log"
    until = time.monotonic() + 120
    while not (log.is_file() and "epoch 1/" in log.read_text()) and time.monotonic() < until:
        time.sleep(0.2)
    ours = descendants(process.pid)
    process.kill()
    process.communicate()
    assert ours
    until = time.monotonic() + 60
    while any(map(runs_on, ours)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(runs_on, ours))
    assert "epoch 1/" in log.read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("+study=decoders",), "is many runs: start it with -m"),
        (("+study=decoders", "study.arm=boundary"), "add decoder=boundary encoder=tiny"),
        (("-m", "+study=decoders", "study.arm=bundary"), "study.arm=bundary is unknown: choose"),
        (("-m", "+study=decoders", "study.baseline=x"), "study.baseline=x: choose from baseline,"),
        (
            ("-m", "+study=decoders", "study.evaluate=x"),
            "study.evaluate=x: wanted val, test or null",
        ),
        (("-m", "+study=decoders", "study.resume=1"), "study.resume=1: wanted true or false"),
        (("-m", "+study=decoders", '+study.arms.s=["epohcs=3"]'), "Could not override 'epohcs'"),
        (("-m", "+study=decoders", "+study.arms.s=3"), "study.arms.s=3: wanted words such as"),
        (("-m", "+study=decodrs"), "did you mean decoders?"),
        (
            ("-m", "+study=decoders", "decoder=baseline"),
            "is what the arms of study decoders differ in",
        ),
        (("-m", "+study=criterion", "class_weights=null"), "class_weights=null is what the arms"),
        (("-m", "+study=decoders", '+study.arms.b=["decoder=baseline"]'), "baseline and b come to"),
        (("-m", "+study=decoders", '+study.arms.jobs=["seed=1"]'), "has 'jobs': choose another"),
        (
            ("-m", "+study=decoders", '+study.arms.wandb=["epochs=1"]'),
            "has 'wandb': choose another",
        ),
        (
            ("-m", "+study=decoders", "patience=1,2"),
            "patience is swept over, but runs of a study differ",
        ),
        (("-m", "+study=decoders", "study.out="), "study.out=: wanted a folder"),
        (("-m", "+study=decoders", "study.out=/proc/x"), "study.out=/proc/x: "),
        (("-m", "+study=decoders", "data.tile_px=0"), "data.tile_px=0, wanted"),
        (("-m", "+study=decoders", "protocol=full"), "weights"),
        (("-m", "+study=decoders", "--cfg", "job"), "Leave -m out"),
    ],
)
def test_what_cannot_be_a_study_is_one_line(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", "hydra/launcher=basic", *words, "+debug=fast", "epochs=1")
    assert (result.code, list(tmp_path.iterdir())) == (2, [])
    assert line in result.err
    assert result.err.count("\n") == 1
