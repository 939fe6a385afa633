"""`train` in two processes: the numbers of one, said once, stopped together."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from feature_runs import error_line
from stopped_runs import WORDS, Command, Place, assert_same_run, decoder_of, write_training_store
from wandb_log import read_offline

TESTS = Path(__file__).parent.parent
TWO = "trainer.devices=2"
SGD = "optim.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.003}"
TOLERANCE = 1e-5
"""Of losses, relative, after three epochs with SGD: sums of float32 in another order."""

ADAM_TOLERANCE = 2e-3
"""With AdamW: where gradients are rounding alone (biases before a normalisation), its steps are whole."""

pytestmark = pytest.mark.slow


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Of every run: what two processes draw for dropout is not what one draws."""
    store = write_training_store(
        tmp_path_factory.mktemp("ranks") / "store"
    )  # two batches are scored: one each
    return (*WORDS, f"store.path={store}", "data.batch_size=4", "decoder.dropout=0", SGD)


def train(*given: str) -> Ended:
    """The command in processes of its own, as a user starts it."""
    command = [sys.executable, "-m", "tissueseg.train", *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def whole(words: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A run of two processes that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended = train(*words, TWO, "logger=wandb", f"run_dir={folder}")
    assert ended.code == 0, ended.err
    return folder, ended


def started_elsewhere(given: Sequence[str], stop: Mapping[int, tuple[Place, int]]) -> list[Ended]:
    """Two processes as `torchrun` starts them, some of which are sent a signal at a place."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    for rank in ("0", "1"):
        place, number = stop.get(int(rank), (Place(0, 0), 0))
        where = [str(place.epoch), str(place.batch), place.side, str(number)]
        started.append(
            subprocess.Popen(
                [sys.executable, str(TESTS / "stopped_rank.py"), *where, *given],
                env=os.environ | both | {"RANK": rank, "LOCAL_RANK": rank},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate(timeout=120) for process in started]
    return [Ended(p.returncode, *texts) for p, texts in zip(started, said, strict=True)]


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def assert_close_run(one: Path, other: Path, tolerance: float = TOLERANCE) -> None:
    assert len(rows(one)) == len(rows(other)) == 3
    for left, right in zip(rows(one), rows(other), strict=True):
        assert left == pytest.approx(right, rel=tolerance)


def left_by(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if path.parts[0] != "wandb"}


def test_two_processes_train_as_one(
    command: Command, words: Sequence[str], whole: tuple[Path, Ended], tmp_path: Path
) -> None:
    assert command("train", *words, f"run_dir={tmp_path / 'one'}").code == 0
    folder, _ = whole
    assert_close_run(folder, tmp_path / "one")
    assert left_by(folder) == left_by(tmp_path / "one")
    two, one = (
        json.loads((f / "metrics.json").read_text())["metrics"] for f in (folder, tmp_path / "one")
    )
    assert two == pytest.approx(one, rel=TOLERANCE, abs=TOLERANCE, nan_ok=True)


def test_steps_of_adamw_hide_no_other_loss(
    command: Command, words: Sequence[str], tmp_path: Path
) -> None:
    adamw = [word for word in words if word != SGD]
    assert command("train", *adamw, f"run_dir={tmp_path / 'one'}").code == 0
    assert (ended := train(*adamw, TWO, f"run_dir={tmp_path / 'two'}")).code == 0, ended.err
    assert_close_run(tmp_path / "two", tmp_path / "one", ADAM_TOLERANCE)


def test_one_of_them_speaks(whole: tuple[Path, Ended]) -> None:
    folder, (_, out, err) = whole
    lines = out.splitlines()
    for beginning in (
        "epoch 1/",
        "epoch 3/",
        "run folder: ",
        "split ",
        "encoder ",
        f"  {folder}/m",
    ):
        found = [line for line in lines if line.startswith(beginning)]
        assert len(found) == len(set(found)) >= 1, beginning
    assert sum("macro foreground" in line for line in lines) == 1
    assert err == ""


def test_one_of_them_tells_wandb(whole: tuple[Path, Ended]) -> None:
    run = read_offline(whole[0])
    assert len([row for row in run.history if "val/loss" in row]) == 3


def test_stopped_within_an_epoch_they_go_on_together_and_end_the_same(
    command: Command, words: Sequence[str], whole: tuple[Path, Ended], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    second = {1: (Place(1, 1), signal.SIGTERM)}
    both = started_elsewhere((*words, TWO, f"run_dir={folder}"), second)
    assert [ended.code for ended in both] == [143, 143], both
    refused = error_line(command("train", f"resume={folder}", "trainer.devices=1"))
    assert "within an epoch that 2 processes shared, and would go on with 1" in refused
    assert (ended := train(f"resume={folder}")).code == 0, ended.err
    assert_same_run(folder, whole[0])


def test_between_two_epochs_one_can_go_on_with_what_two_began(
    command: Command, words: Sequence[str], whole: tuple[Path, Ended], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    last = {0: (Place(0, 0, "val"), signal.SIGUSR1)}
    both = started_elsewhere((*words, TWO, f"run_dir={folder}"), last)
    assert [ended.code for ended in both] == [128 + signal.SIGUSR1] * 2, both
    assert command("train", f"resume={folder}", "trainer.devices=1").code == 0
    assert_close_run(folder, whole[0])
    assert decoder_of(folder)["state"].keys() == decoder_of(whole[0])["state"].keys()


def test_bad_input_is_said_once(words: Sequence[str], tmp_path: Path) -> None:
    code, out, err = train(*words, TWO, "data.batch_size=3", f"run_dir={tmp_path / 'run'}")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("error: data.batch_size=3 ")
    said = [line for line in out.splitlines() if not line.startswith("[Gloo]")]  # as torch 2.8 does
    assert not said
    assert not (tmp_path / "run").exists()


def test_machines_want_processes_of_their_own(command: Command, words: Sequence[str]) -> None:
    said = error_line(command("train", *words, "trainer.num_nodes=2"))
    assert "start the command on every machine" in said


@pytest.fixture
def running(words: Sequence[str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes in the second epoch of a long training, in the folder `run`."""
    given = (*words, TWO, "epochs=1000", "patience=1000", f"run_dir={tmp_path / 'run'}")
    process = subprocess.Popen(
        [sys.executable, "-m", "tissueseg.train", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    yield process
    process.kill()
    process.communicate()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_a_lost_process_ends_the_others(running: subprocess.Popen[str]) -> None:
    first, second = sorted(children(running.pid))
    os.kill(second, signal.SIGKILL)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGKILL
    assert "error: process 2 of 2 was ended by SIGKILL, as systems do" in err
    assert "Traceback" not in err
    assert not Path(f"/proc/{first}").exists()


def test_a_signal_reaches_them_and_their_state_is_kept(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (143, "")
    assert out.count("interrupted. Go on with") == 1
    assert len([*(tmp_path / "run/state").glob("*.ckpt")]) >= 1


def test_they_end_with_what_started_them(running: subprocess.Popen[str]) -> None:
    left = children(running.pid)
    running.kill()
    for _ in range(600):
        if not any(Path(f"/proc/{pid}").exists() for pid in left):
            break
        time.sleep(0.1)
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]
