"""Which run goes on, from which state, and which does not: named, found by its job, or refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from signal import SIGINT, SIGTERM, SIGUSR1
from typing import Any

import pytest
from feature_runs import error_line
from stopped_runs import (
    WORDS,
    Command,
    Place,
    Uninterrupted,
    assert_same_run,
    interrupted_run,
    stopped_at,
    watched,
    write_training_store,
)
from stores import random_tissue, write_store
from wandb_log import records

from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.resuming import requeue, slurm_job
from tissueseg.store.claims import Claims


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_store(tmp_path_factory.mktemp("resumed") / "store")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(tmp_path_factory.mktemp("uninterrupted"))


@pytest.fixture
def stopped(command: Command, store: Path, tmp_path: Path) -> Path:
    """A run that was stopped twice, whose states are those after the first and second batch."""
    folder = tmp_path / "stopped"
    for place, *words in (
        (Place(0, 0), *WORDS, f"store.path={store}", f"run_dir={folder}"),
        (Place(0, 1), f"resume={folder}"),
    ):
        with watched({place: SIGTERM}):
            assert command("train", *words).code == 128 + SIGTERM
    assert [path.name[:14] for path in states(folder)] == ["step_000000001", "step_000000002"]
    return folder


def states(folder: Path) -> list[Path]:
    return sorted((folder / "state").glob("*.ckpt"))


@pytest.mark.parametrize(("damaged", "begin"), [(1, Place(0, 1)), (2, Place(0, 0))])
def test_a_damaged_state_costs_the_work_since_the_one_before(
    command: Command,
    store: Path,
    uninterrupted: Uninterrupted,
    stopped: Path,
    damaged: int,
    begin: Place,
) -> None:
    for path in states(stopped)[2 - damaged :]:
        path.write_bytes(path.read_bytes()[:-1])
    with watched() as seen:
        result = command("train", f"resume={stopped}")
    assert (result.code, seen[0]) == (0, begin)
    assert result.out.count(" is damaged") == damaged
    assert ("begins anew" in result.out) == (damaged == 2)
    whole, _ = uninterrupted.run(command, (*WORDS, f"store.path={store}"))
    assert_same_run(stopped, whole)


def test_a_finished_run_stays_as_it_is(command: Command, finished_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    result = command("train", f"resume={finished_run}")
    assert (result.code, result.out) == (0, f"finished already: {finished_run}\n")
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


def test_what_is_no_run_cannot_be_gone_on_with(command: Command, tmp_path: Path) -> None:
    assert "no config.yaml" in error_line(command("train", f"resume={tmp_path}"))
    assert "holds no" in error_line(command("train", f"resume={tmp_path / 'none'}"))
    assert "give run_dir=" in error_line(command("train", "resume=auto"))
    assert "resume=5" in error_line(command("train", "resume=5"))


def test_words_that_would_change_a_run_are_refused(command: Command, stopped: Path) -> None:
    before = (stopped / "config.yaml").read_bytes()
    said = error_line(command("train", f"resume={stopped}", "epochs=9", "optim.optimizer.lr=1"))
    assert "leave out epochs=9 optim.optimizer.lr=1" in said
    assert (stopped / "config.yaml").read_bytes() == before


def test_auto_begins_and_then_goes_on(
    command: Command, store: Path, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    words = (*WORDS, f"store.path={store}")
    auto = (*words, "resume=auto", f"run_dir={tmp_path / 'run'}")
    with watched({Place(1, 1): SIGTERM}) as begun:
        assert command("train", *auto).code == 128 + SIGTERM
    said = error_line(command("train", *auto, "epochs=9"))
    assert "configured otherwise (epochs" in said
    with watched() as gone_on:
        assert command("train", *auto).code == 0
    whole, batches = uninterrupted.run(command, words)
    assert begun + gone_on == batches
    assert_same_run(tmp_path / "run", whole)
    assert f"finished already: {tmp_path / 'run'}" in command("train", *auto).out


def test_another_store_is_refused(command: Command, stopped: Path, store: Path) -> None:
    moved = store.rename(store.with_name("moved"))
    try:
        write_store(store, {name: random_tissue(64, 64, seed=9) for name in "abc"})
        said = error_line(command("train", f"resume={stopped}"))
    finally:
        rmtree(store, ignore_errors=True)
        moved.rename(store)
    assert "begun with other digests" in said


def test_a_run_has_one_training_at_a_time(command: Command, stopped: Path) -> None:
    with Claims(stopped / "state/claims") as claims:
        held = claims.take("run")
        assert held is not None
        assert "another process trains this run" in error_line(
            command("train", f"resume={stopped}")
        )
        held.release()
    assert command("train", f"resume={stopped}").code == 0


CODES = {SIGINT: 130, SIGTERM: 143, SIGUSR1: 128 + SIGUSR1}


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A cluster's program that says a job's state; what it was asked."""
    asked = tmp_path / "asked"
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {asked}\necho JobId=7 JobState=$(cat {tmp_path / "job"})\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.chdir(tmp_path)

    def of_job(state: str) -> list[str]:
        (tmp_path / "job").write_text(state)
        lines = asked.read_text().splitlines() if asked.exists() else []
        asked.unlink(missing_ok=True)
        return lines

    return of_job


@pytest.mark.parametrize(
    ("number", "state", "requeued"),
    [
        (SIGUSR1, "RUNNING", True),
        (SIGTERM, "RUNNING", True),
        (SIGTERM, "CANCELLED", False),
        (SIGINT, "RUNNING", False),
    ],
)
def test_a_job_goes_back_into_the_queue_unless_somebody_ended_it(
    command: Command,
    store: Path,
    scontrol: Callable[[str], list[str]],
    number: int,
    state: str,
    requeued: bool,
) -> None:
    scontrol(state)
    with watched({Place(0, 0): number}):
        result = command("train", *WORDS, f"store.path={store}")
    assert result.code == CODES[number]
    assert ("requeue 7" in scontrol(state)) == requeued
    assert ("job 7 is in the queue again" in result.out) == requeued


def test_a_job_that_is_queued_again_finds_its_run(
    command: Command,
    store: Path,
    uninterrupted: Uninterrupted,
    scontrol: Callable[[str], list[str]],
) -> None:
    words = (*WORDS, f"store.path={store}")
    scontrol("RUNNING")
    with watched({Place(0, 1): SIGUSR1}) as begun:
        assert command("train", *words).code == CODES[SIGUSR1]
    with watched() as gone_on:
        assert command("train", *words).code == 0
    (folder,) = Path("runs").glob("*/*")
    assert folder.name == "slurm-7"
    whole, batches = uninterrupted.run(command, words)
    assert begun + gone_on == batches
    assert_same_run(folder, whole)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"SLURM_JOB_ID": "7"}, "slurm-7"),
        (
            {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"},
            "slurm-7_2",
        ),
        ({"SLURM_JOB_ID": "7", "SUBMITIT_EXECUTOR": "slurm"}, None),
        ({}, None),
    ],
)
def test_jobs_name_their_runs(environment: dict[str, str], name: str | None) -> None:
    assert slurm_job(environment) == name


def test_without_the_cluster_s_program_a_job_says_that_it_is_not_queued(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    requeue()
    assert "job 7 was not put back into the queue" in capsys.readouterr().out


def test_wandb_knows_a_run_again(
    command: Command, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    words = (*WORDS, f"store.path={store}", "logger=wandb", "epochs=2")
    interrupted_run(command, words, tmp_path / "run", stopped_at(Place(0, 2, "val")))
    logs = sorted((tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb"))
    assert len(logs) == 2
    epochs = []
    for log in logs:
        told = [*records(log)]
        (run,) = {r.run.run_id for r in told if r.WhichOneof("record_type") == "run"}
        assert log.name == f"run-{run}.wandb"
        epochs.append(run)
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize("side", ["validation", "test"])
def test_a_run_that_is_stopped_while_it_is_scored_is_scored_again(
    command: Command,
    store: Path,
    tmp_path: Path,
    uninterrupted: Uninterrupted,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
) -> None:
    folder, step = tmp_path / "run", getattr(SegmentationModule, f"{side}_step")

    def stopping(module: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        if module.trainer.state.fn != "fit":
            os.kill(os.getpid(), SIGTERM)
        return step(module, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, f"{side}_step", stopping)
        words = (*WORDS, f"store.path={store}", f"run_dir={folder}")
        assert command("train", *words).code == 128 + SIGTERM
    assert not (folder / "metrics.json").exists()
    assert command("train", f"resume={folder}").code == 0
    assert_same_run(folder, uninterrupted.run(command, (*WORDS, f"store.path={store}"))[0])
