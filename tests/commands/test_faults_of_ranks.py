"""Trainings in two processes of which one is lost: the other ends soon, and both go on as before."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed_commands import Commands, Ended, order
from stopped_runs import WORDS, assert_same_run, write_training_store

from tissueseg.modules.checkpoint import load_decoder
from tissueseg.modules.state_files import StateFiles

pytestmark = pytest.mark.slow  # two processes each

MIDST = [1, 2]  # epoch and batch
PATIENCE_S = 8.0


@pytest.fixture(scope="module")
def commands(demo_cache: Path) -> Iterator[Commands]:
    made = Commands(TISSUESEG_CACHE=str(demo_cache))
    yield made
    made.close()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder with a store, and the run of two processes that were left alone."""
    folder = tmp_path_factory.mktemp("faults")
    write_training_store(folder / "store")
    assert [ended.code for ended in both(commands, folder, "whole")] == [0, 0]
    return folder


def both(commands: Commands, work: Path, run: str, **second: Any) -> list[Ended]:
    """Begin a run in two processes, or go on with it.

    Args:
        commands: that run.
        work: folder to run in.
        run: folder of the run.
        second: what befalls the second process.
    """
    to = (f"run_dir={run}", "resume=auto", "state.every_s=0", "trainer.devices=2")
    words = ("train", *WORDS, "data.batch_size=4", "store.path=store", *to)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [place | {"RANK": number, "LOCAL_RANK": number} for number in ("0", "1")]
    one = order(work, *words, environment=ranks[0], patience_s=PATIENCE_S)
    return commands.at_once([one, order(work, *words, environment=ranks[1], **second)])


def test_when_a_process_is_killed_the_other_ends_and_both_go_on(
    commands: Commands, work: Path
) -> None:
    first, second = both(commands, work, "killed", send=[*MIDST, signal.SIGKILL])
    assert second.code == -signal.SIGKILL
    assert first.code == 2, first.said
    assert "Traceback" not in first.said
    assert "another process of this job has ended" in first.said
    newest, damaged = StateFiles(work / "killed/state").recover()
    assert newest is not None
    assert damaged == []
    assert [ended.code for ended in both(commands, work, "killed")] == [0, 0]
    assert_same_run(work / "killed", work / "whole")


def test_a_process_that_hangs_is_waited_for_as_long_as_it_was_said(
    commands: Commands, work: Path
) -> None:
    ended = both(commands, work, "stopped", send=[*MIDST, signal.SIGSTOP])
    assert "another process of this job" in ended[0].said
    assert [one.code for one in ended] == [2, -signal.SIGKILL]
    assert [one.code for one in both(commands, work, "stopped")] == [0, 0]
    assert_same_run(work / "stopped", work / "whole")


def test_a_loss_that_is_no_number_is_said_once_with_the_right_tile(
    commands: Commands, work: Path
) -> None:
    ended = both(commands, work, "spoilt", spoil=MIDST)
    assert [one.code for one in ended] == [2, 2]
    lines = [line for one in ended for line in one.said.splitlines()]
    (error,) = (line for line in lines if "is nan" in line)
    (tile,) = (line.partition(": ")[2] for line in lines if line.startswith("spoilt"))
    assert f"at tissue a, tile at {tile}: " in error
    assert not [line for line in lines if "Traceback" in line]
    assert load_decoder(work / "spoilt/decoder.ckpt").epoch == 0
    assert [one.code for one in both(commands, work, "spoilt")] == [0, 0]
    assert_same_run(work / "spoilt", work / "whole")
