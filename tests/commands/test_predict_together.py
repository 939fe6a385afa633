"""`predict` in several processes: each tissue by one of them, and the same cells."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from feature_runs import error_line
from stained_runs import stained, stained_run
from stores import write_store

from tissueseg import workers
from tissueseg.store.claims import Claim
from tissueseg.tables.label_image import LabelImage

Command = Callable[..., Any]  # name, overrides -> code, out, err
Cli = Callable[..., subprocess.CompletedProcess[str]]

TISSUES = "pqrst"
ALONE = ("workers=0", "preview=false", "formats=[csv]")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose cells can be found, not to be changed."""
    return stained_run(tmp_path_factory.mktemp("trained"), "epochs=4")


@pytest.fixture(scope="module")
def words(run: Path) -> tuple[str, ...]:
    """Of every command: five tissues of another store."""
    tissues = {name: stained(64, 64, 10 + seed) for seed, name in enumerate(TISSUES)}
    store = write_store(run.parent / "other.zarr", tissues).path
    return (f"run={run}", f"store.path={store}", *ALONE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def predict(command: Command, words: tuple[str, ...], out: Path) -> Command:
    """Here, in one process."""

    def predict(*overrides: str) -> Any:
        return command("predict", *words, f"out={out}", *overrides)

    return predict


def found(printed: str) -> list[str]:
    """Tissues whose cells were found, as they were told of."""
    lines = (line.split(": ") for line in printed.splitlines() if " cells in " in line)
    return [parts[0] for parts in lines if len(parts) == 2 and parts[0] in [*TISSUES]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_processes_find_the_cells_of_one(
    predict: Command, run_cli: Cli, words: tuple[str, ...], out: Path, tmp_path: Path
) -> None:
    assert predict("preview=true").code == 0
    given = (*words, f"out={tmp_path / 'two'}", "preview=true", "trainer.devices=2")
    both = run_cli("predict", *given)
    assert (both.returncode, both.stderr) == (0, "")
    assert sorted(found(both.stdout)) == [*TISSUES]
    assert names(tmp_path / "two") == names(out) == ["index.html", *TISSUES]
    for tissue in TISSUES:
        cells = [(folder / tissue / "cells.csv").read_bytes() for folder in (out, tmp_path / "two")]
        assert cells[0] == cells[1]
        assert cells[0].count(b"\n") > 5
        assert f'href="{tissue}/index.html"' in (tmp_path / "two/index.html").read_text()
    last = [line for line in both.stdout.splitlines() if "cells in 5 tissues" in line]
    assert len(last) == 1  # of the first process, which speaks for all
    jobs = {json.loads(p.read_text())["job"] for p in (tmp_path / "two").glob("*/prediction.json")}
    assert len(jobs) == 1


def test_what_this_job_has_made_again_it_does_not_make_thrice(
    predict: Command, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predict("tissues=[p,q]").code == 0
    monkeypatch.setenv("TISSUESEG_WATCHED", "one")
    assert found(predict("tissues=[p]", "overwrite=true").out) == ["p"]
    assert found(predict("tissues=[p,q]", "overwrite=true").out) == ["q"]
    assert found(predict("tissues=[p]", "overwrite=true", "types=majority").out) == ["p"]
    monkeypatch.setenv("TISSUESEG_WATCHED", "two")
    assert found(predict("tissues=[p,q]", "overwrite=true", "types=majority").out) == ["p", "q"]


@pytest.mark.parametrize(
    "word", ["overlap_px=24", "store.path=nowhere.zarr", "trainer.num_nodes=2"]
)
def test_what_is_wrong_is_said_before_processes_start(
    predict: Command, out: Path, word: str
) -> None:
    line = error_line(predict(word, "trainer.devices=2"))
    assert word.partition("=")[2] in line
    assert not out.exists()


def test_processes_started_by_hand_make_an_image_once(run: Path, out: Path, tmp_path: Path) -> None:
    he = stained(96, 80, 3).he
    assert he is not None
    tifffile.imwrite(tmp_path / "slide.tif", np.moveaxis(he, 0, -1), photometric="rgb")
    given = [f"run={run}", f"out={out}", f"image={tmp_path / 'slide.tif'}", "image.mpp=0.5"]
    command = [sys.executable, "-m", "tissueseg.predict", *given, *ALONE]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    said = [process.communicate(timeout=100) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert [err for _, err in said] == ["", ""]
    assert names(out) == ["images.zarr", "slide"]
    assert sum("slide: " in printed for printed, _ in said) == 1


HOLDING = """
import sys
from pathlib import Path
from tissueseg.workers import SharedFolder

with SharedFolder(Path(sys.argv[1])).alone_at(sys.argv[2], print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, that is at a tissue."""
    pipe = subprocess.PIPE
    script = [sys.executable, "-c", HOLDING, str(out), "q"]
    with subprocess.Popen(script, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def at_next_look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[float]]:
    """From its call on, what happens while `predict` waits; the list is of how long it would have."""

    def let(happen: Callable[[], object]) -> list[float]:
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:  # nothing has changed at the first look
                happen()
            assert len(waits) <= 2, "waits for what is done"

        monkeypatch.setattr(workers, "time", SimpleNamespace(sleep=sleep))
        return waits

    return let


def test_a_tissue_of_a_process_that_dies_is_taken_over(
    predict: Command,
    out: Path,
    holder: subprocess.Popen[str],
    at_next_look: Callable[..., list[float]],
) -> None:
    def die() -> None:
        holder.kill()
        holder.wait()

    waits = at_next_look(die)
    result = predict()
    assert (result.code, found(result.out), len(waits)) == (0, [*"prstq"], 2)
    assert names(out) == [*TISSUES]  # and no claims


def test_a_tissue_that_another_completes_is_waited_for_and_kept(
    predict: Command,
    out: Path,
    tmp_path: Path,
    holder: subprocess.Popen[str],
    at_next_look: Callable[..., list[float]],
    command: Command,
    words: tuple[str, ...],
) -> None:
    assert command("predict", *words, f"out={tmp_path / 'made'}", "tissues=[q]").code == 0
    waits = at_next_look(lambda: shutil.copytree(tmp_path / "made/q", out / "q"))
    result = predict()
    assert (result.code, found(result.out), len(waits)) == (0, [*"prst"], 2)
    assert "cells in 5 tissues" in result.out


def test_whoever_does_not_wait_says_so(
    predict: Command,
    out: Path,
    holder: subprocess.Popen[str],
    at_next_look: Callable[..., list[float]],
) -> None:
    waits = at_next_look(lambda: None)
    result = predict("wait=false")
    assert (result.code, found(result.out), waits) == (0, [*"prst"], [])
    assert "1 tissues other processes are at: not waited for" in result.out
    assert names(out) == [".claims", *"prst"]


def test_cells_of_a_tissue_that_was_taken_over_are_thrown_away(
    predict: Command, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, lost = Claim.held, list[str]()

    def once_not(claim: Claim) -> bool:
        at_q = claim.path.parent.name == "q" and not lost
        if at_q and next(out.glob(".q.partial-*/prediction.json"), None):
            assert not (out / "q").exists()
            lost.append("q")
            return False
        return held(claim)

    monkeypatch.setattr(Claim, "held", once_not)
    monkeypatch.setattr(workers, "time", SimpleNamespace(sleep=lambda seconds: None))
    result = predict()
    assert (result.code, found(result.out), lost) == (0, [*"prstq"], ["q"])


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that takes what is said to SLURM, in whose job this is."""
    told, folder = tmp_path / "told", tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {told}\necho JobState=RUNNING\n')
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return told


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_whose_time_is_up_keeps_what_is_done_and_is_queued_again(
    predict: Command,
    out: Path,
    scontrol: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: signal.Signals,
) -> None:
    finish = LabelImage.finish

    def stop_in_q(image: LabelImage, *given: Any) -> None:
        if next(out.glob(".q.partial-*"), None):
            os.kill(os.getpid(), sent)
        finish(image, *given)

    with monkeypatch.context() as patch:
        patch.setattr(LabelImage, "finish", stop_in_q)
        result = predict()
    assert (result.code, result.err) == (128 + sent, "")
    assert names(out) == ["p"]
    assert scontrol.read_text().splitlines() == ["show job -o 7", "requeue 7"]
    assert signal.getsignal(sent) == signal.SIG_DFL
    assert found(predict().out) == [*"qrst"]


def test_what_killed_processes_of_other_machines_left_is_removed(
    predict: Command, out: Path
) -> None:
    assert predict("tissues=[p]").code == 0
    left = out / ".q.partial-elsewhere-7"
    shutil.copytree(out / "p", left)  # complete, but for its name
    result = predict("tissues=[p]", "preview=true", "formats=[csv]", "overwrite=true")
    assert "cells in 1 tissues" in result.out
    assert predict("tissues=[q]").code == 0
    assert names(out) == ["index.html", "p", "q"]
