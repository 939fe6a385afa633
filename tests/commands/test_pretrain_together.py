"""`pretrain` in two processes: the numbers of one, said once, stopped together, told to W&B."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from feature_runs import error_line
from pretrain_runs import assert_same_run, words, write_all
from stopped_runs import Place
from wandb_log import read_offline

Command = Callable[..., Any]  # name, overrides -> code, out, err
TESTS = Path(__file__).parent.parent
TWO = "trainer.devices=2"
SGD = (
    "~optim.optimizer.betas",
    "optim.optimizer._target_=torch.optim.SGD",
    "optim.optimizer.lr=0.003",
)
TOLERANCE = 1e-5
"""Of losses, relative, with SGD: sums of float32 in another order."""

pytestmark = pytest.mark.slow


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


def begun(*command: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own, as a user starts it."""
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started_elsewhere(given: Sequence[str], stop: Mapping[int, tuple[Place, int]]) -> list[Ended]:
    """Two processes as `torchrun` starts them, some of which are sent a signal at a place."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in ("0", "1"):
        place, number = stop.get(int(rank), (Place(0, 0), 0))
        where = (str(place.epoch), str(place.batch), place.side, str(number))
        script = str(TESTS / "pretrain_runs.py")
        processes.append(begun(script, *where, *given, **both, RANK=rank, LOCAL_RANK=rank))
    return [ended(process) for process in processes]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Words of every run: two steps an epoch, of two tiles a process; markers of two stores."""
    made = write_all(tmp_path_factory.mktemp("together"))
    more = f"more_stores=[{made / 'more.zarr'}]"
    return (*words(made, "sp"), *SGD, more, "data.batch_size=4", "score_tiles=12")


@pytest.fixture(scope="module")
def whole(given: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A run of two processes that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    words = ("-m", "tissueseg.pretrain", *given, TWO, "logger=wandb", f"run_dir={folder}")
    done = ended(begun(*words))
    assert done.code == 0, done.err
    return folder, done


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def left_by(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if path.parts[0] != "wandb"}


def test_two_processes_learn_as_one(
    command: Command, given: Sequence[str], whole: tuple[Path, Ended], tmp_path: Path
) -> None:
    assert command("pretrain", *given, f"run_dir={tmp_path / 'one'}").code == 0
    two, one = rows(whole[0]), rows(tmp_path / "one")
    assert len(one) == len(two) == 2
    for left, right in zip(two, one, strict=True):
        assert left == pytest.approx(right, rel=TOLERANCE)
    assert left_by(whole[0]) == left_by(tmp_path / "one")


def test_one_of_them_speaks(whole: tuple[Path, Ended]) -> None:
    folder, (_, out, err) = whole
    lines = out.splitlines()
    for beginning in ("epoch 1/2", "epoch 2/2", "run folder: ", "split ", f"  {folder}/metrics"):
        found = [line for line in lines if line.startswith(beginning)]
        assert len(found) == len(set(found)) >= 1, beginning
    assert out.count("against what is there") == 1
    assert err == ""


def test_wandb_is_told_of_losses_scores_and_pictures(whole: tuple[Path, Ended]) -> None:
    folder, _ = whole
    sent = read_offline(folder)
    losses = [row["val/loss"] for row in sent.history if "val/loss" in row]
    assert losses == pytest.approx([row["val/loss"] for row in rows(folder)], rel=1e-6)
    drawn = sorted((folder / "panels").glob("*.png"))
    pictures = sent.images("reconstructions")
    assert len(pictures) == 2  # after every epoch
    assert [path.read_bytes() for path in pictures[-1]] == [path.read_bytes() for path in drawn]
    assert sent.summary["val/correlation/mean"] is not None
    assert {"val/correlation/DAPI", "val/correlation/Ki67"} <= sent.summary.keys()
    assert sent.exit_code == 0


def test_stopped_within_an_epoch_they_go_on_together_and_end_the_same(
    command: Command, given: Sequence[str], whole: tuple[Path, Ended], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    second = {1: (Place(1, 0), signal.SIGTERM)}
    both = started_elsewhere((*given, TWO, f"run_dir={folder}"), second)
    assert [one.code for one in both] == [143, 143], both
    refused = error_line(command("pretrain", f"resume={folder}", "trainer.devices=1"))
    assert "within an epoch that 2 processes shared" in refused
    again = ended(begun("-m", "tissueseg.pretrain", f"resume={folder}"))
    assert again.code == 0, again.err
    assert_same_run(folder, whole[0])
