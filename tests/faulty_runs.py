"""What tests of trainings that something befalls share: a run, its midst, and how it goes on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stopped_runs import WORDS, Place, assert_same_run, watched, write_training_store

from tissueseg.command import run_command
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.modules.state_files import StateFiles
from tissueseg.train import train

Command = Callable[..., Any]  # name, overrides -> code, out, err

MIDST = Place(1, 2)  # one of four batches, of the second of three epochs


def left_alone(folder: Path) -> tuple[Path, Path]:
    """A store, and a run that nothing befell."""
    store = write_training_store(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tissueseg.train", *words(store, folder / "whole")])
        run_command("train", train)
    return store, folder / "whole"


def words(store: Path, folder: Path) -> tuple[str, ...]:
    return (*WORDS, f"store.path={store}", f"run_dir={folder}", "resume=auto", "state.every_s=0")


@contextmanager
def at(place: Place, do: Callable[[], Any]) -> Iterator[None]:
    """Do something before a batch of a fit is trained on."""
    step = SegmentationModule.training_step

    def doing(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        if place == (self.current_epoch, batch_idx, "train"):
            do()
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationModule, "training_step", doing)
        yield


def newest_step(folder: Path) -> int:
    newest, damaged = StateFiles(folder / "state").recover()
    assert damaged == []
    assert newest is not None
    return int(newest.name[5:14])


def goes_on(command: Command, store: Path, folder: Path, whole: Path) -> None:
    """With what it lacked back again, a run ends as one that lacked nothing."""
    result = command("train", f"resume={folder}")
    assert result.code == 0, result.err
    assert_same_run(folder, whole)


def stopped(command: Command, store: Path, tmp_path: Path) -> Path:
    """A run that was stopped in the midst of it."""
    folder = tmp_path / "run"
    with watched({MIDST: signal.SIGTERM}):
        assert command("train", *words(store, folder)).code == 128 + signal.SIGTERM
    return folder
