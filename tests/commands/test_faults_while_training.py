"""What befalls a training: data that go, numbers that are none, odd clocks."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
import torch
from faulty_runs import MIDST, Command, at, goes_on, left_alone, newest_step, stopped, words
from feature_runs import error_line
from omegaconf import OmegaConf
from stopped_runs import WORDS, Place, watched
from stores import TINY

from tissueseg.decoders.skip import SkipDecoder
from tissueseg.modules.checkpoint import load_decoder
from tissueseg.study import JOBS
from tissueseg.study_plan import Plan


@pytest.fixture(autouse=True)
def states_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than the steps of a run this small."""
    monkeypatch.setattr("tissueseg.modules.resumption._SHARE", 0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return left_alone(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def store(alone: tuple[Path, Path]) -> Path:
    return alone[0]


@pytest.fixture
def whole(alone: tuple[Path, Path]) -> Path:
    return alone[1]


def test_a_store_that_is_moved_away_ends_a_training_that_goes_on_when_it_is_back(
    command: Command, store: Path, whole: Path, tmp_path: Path
) -> None:
    folder, moved = tmp_path / "run", store.with_name("moved")
    with at(MIDST, lambda: store.rename(moved)):
        result = command("train", *words(store, folder))
    moved.rename(store)
    assert f"{store} was replaced or removed" in error_line(result)
    assert newest_step(folder) >= 5  # of the first epoch's four, and those that were read ahead
    goes_on(command, store, folder, whole)


def test_a_tissue_that_is_removed_is_not_read_as_black(
    command: Command, store: Path, whole: Path, tmp_path: Path
) -> None:
    folder, kept = tmp_path / "run", copytree(store, tmp_path / "kept")
    with at(MIDST, lambda: rmtree(store / "a")):
        result = command("train", *words(store, folder))
    rmtree(store)
    kept.rename(store)
    assert f"{store} was replaced or removed" in error_line(result)
    goes_on(command, store, folder, whole)


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO])
def test_a_mount_that_fails_ends_a_training_that_goes_on_when_it_is_back(
    command: Command, store: Path, whole: Path, tmp_path: Path, code: int
) -> None:
    folder = tmp_path / "run"
    with (
        pytest.MonkeyPatch.context() as patch,
        at(MIDST, lambda: patch.setattr("zarr.storage._local._get", failing(code))),
    ):
        result = command("train", *words(store, folder))
    line = error_line(result)
    arrays = "(he|labels/instances|labels/classes)"  # of which the thread that reads was at one
    assert re.search(rf"tissue [ab]: {arrays} of {re.escape(str(store))} cannot be read", line)
    assert os.strerror(code) in line
    assert "Prepare it again" not in line
    assert newest_step(folder) >= 5
    goes_on(command, store, folder, whole)


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("vanish", ["rename", "rmtree"])
def test_features_that_go_end_a_training_that_goes_on_when_they_are_back(
    command: Command, store: Path, tmp_path: Path, vanish: str
) -> None:
    stored = tmp_path / "features"
    given = (*WORDS, f"store.path={store}", f"embeddings.path={stored}", "features=stored")
    assert command("embed", *TINY, "modality=he", *given[len(TINY) + 1 : -1]).code == 0
    assert command("train", *given, f"run_dir={tmp_path / 'whole'}").code == 0
    copytree(stored, tmp_path / "kept")
    (found,) = stored.glob("[!.]*.zarr")
    with at(
        MIDST,
        lambda: found.rename(found.with_name("moved")) if vanish == "rename" else rmtree(found),
    ):
        result = command("train", *given, f"run_dir={tmp_path / 'run'}", "state.every_s=0")
    rmtree(stored)
    (tmp_path / "kept").rename(stored)
    assert str(found) in error_line(result)
    assert newest_step(tmp_path / "run") >= 5
    goes_on(command, store, tmp_path / "run", tmp_path / "whole")


def test_a_loss_that_is_no_number_ends_a_training_with_the_tile_s_name(
    command: Command, store: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with watched() as seen, poisoned(MIDST):
        result = command("train", *words(store, folder))
    line = error_line(result)
    assert "train/loss is nan in epoch 2" in line
    assert "at tissue a, tile at row" in line
    assert seen[-1] == MIDST
    assert load_decoder(folder / "decoder.ckpt").epoch == 0
    assert newest_step(folder) == 6
    goes_on(command, store, folder, whole)


@contextmanager
def poisoned(place: Place) -> Iterator[None]:
    """Let the decoder make no numbers of the second tile of a batch."""
    with pytest.MonkeyPatch.context() as patch:
        forward = SkipDecoder.forward

        def wrong(self: SkipDecoder, *given: Any) -> Any:
            outputs = forward(self, *given)
            for logits in outputs.values():
                logits.data[1] = torch.nan
            return outputs

        with at(place, lambda: patch.setattr(SkipDecoder, "forward", wrong)):
            yield


@pytest.mark.parametrize("years", [-1, 1])
def test_files_of_another_time_do_not_change_where_a_run_goes_on(
    command: Command, store: Path, whole: Path, tmp_path: Path, years: int
) -> None:
    folder = stopped(command, store, tmp_path)
    newest = newest_step(folder)
    now = time.time()
    for number, path in enumerate(sorted((folder / "state").rglob("*"), reverse=True)):
        when = now + years * 3.15e7 + number  # the oldest state is the youngest file
        os.utime(path, (when, when))
    assert newest_step(folder) == newest
    goes_on(command, store, folder, whole)


def test_a_clock_that_goes_backwards_changes_nothing(
    command: Command, store: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(shown)))
    monkeypatch.setattr(time, "time_ns", lambda: next(shown) * 10**9)
    folder = stopped(command, store, tmp_path)
    goes_on(command, store, folder, whole)
    cost = json.loads((folder / "cost.json").read_text())
    assert cost["fit_s"] > 0
    assert cost["step_s"] > 0


def test_a_study_counts_what_it_ran_when_the_clock_was_put_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = OmegaConf.create({"study": {"out": str(tmp_path)}})
    records = tmp_path / JOBS
    records.mkdir(parents=True)
    plan, of_before = (
        Plan(),
        {"state": "failed", "arm": "a", "label": "old", "line": "x", "ended": 9e9},
    )
    (records / "old.json").write_text(json.dumps(of_before))
    plan.begin(config)
    (records / "new.json").write_text(json.dumps(of_before | {"label": "new", "ended": 1.0}))
    with pytest.raises(SystemExit, match="2"):
        plan.on_multirun_end(config)
    said = capsys.readouterr().err
    assert "1 run failed: a.new (x)" in said
