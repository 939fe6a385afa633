"""States of a training on disk: two whole generations, whatever happens while they are written."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tissueseg.errors import RunFolderError
from tissueseg.modules.state_files import StateFiles


@pytest.fixture
def states(tmp_path: Path) -> StateFiles:
    return StateFiles(tmp_path / "state")


def state(step: int) -> dict[str, Any]:
    return {"global_step": step, "weight": torch.arange(1000) + step, "rows": [{"loss": 0.5}]}


def keep(states: StateFiles, *steps: int) -> list[Path]:
    for step in steps:
        states.save_checkpoint(state(step), states.folder)
    return sorted(states.folder.glob("*.ckpt"))


def recovered(states: StateFiles) -> int | None:
    """The step of the state that is taken, read as Lightning reads it."""
    path, _ = states.recover()
    if path is None:
        return None
    found = states.load_checkpoint(path)
    assert torch.equal(found["weight"], state(found["global_step"])["weight"])
    return found["global_step"]


def test_two_generations_are_kept(states: StateFiles) -> None:
    assert [path.name[:14] for path in keep(states, 1, 2, 30)] == [
        "step_000000002",
        "step_000000030",
    ]
    assert (recovered(states), states.recover()[1]) == (30, [])


def test_of_one_step_the_state_that_was_kept_last_is_taken(states: StateFiles) -> None:
    keep(states, 5)
    states.save_checkpoint(state(5) | {"over": True}, states.folder)
    path, _ = states.recover()
    assert path is not None
    assert states.load_checkpoint(path)["over"] is True


def test_there_may_be_none(states: StateFiles) -> None:
    assert states.recover() == (None, [])
    assert not states.folder.exists()


def flipped(content: bytes, place: float) -> bytes:
    at = int(place * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "first bit": lambda content: flipped(content, 0.0),
    "a bit within": lambda content: flipped(content, 0.4),
    "last bit": lambda content: flipped(content, 1.0),
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one byte more": lambda content: content + b"0",
    "empty": lambda content: b"",
    "zeros, as a crash of the system leaves": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_told_and_removed_and_the_one_before_is_taken(
    states: StateFiles, damage: Any
) -> None:
    before, newest = keep(states, 1, 2)
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.raises(RunFolderError, match=r"step_000000002.* is damaged"):
        states.load_checkpoint(newest)
    assert states.recover() == (before, [f"{newest.name} is damaged"])
    assert (newest.exists(), recovered(states)) == (False, 1)


def test_when_all_are_damaged_none_is_left(states: StateFiles) -> None:
    for path in keep(states, 1, 2):
        path.write_bytes(path.read_bytes()[:-7])
    path, told = states.recover()
    assert (path, len(told)) == (None, 2)
    assert [*states.folder.iterdir()] == []


def test_what_cannot_be_read_is_told_and_stays(states: StateFiles) -> None:
    _, newest = keep(states, 1, 2)
    newest.unlink()
    newest.mkdir()  # refuses to be read whoever asks
    assert states.recover()[1] == [f"{newest.name} cannot be read (Is a directory)"]
    assert (recovered(states), newest.exists()) == (1, True)


def test_a_state_that_is_a_program_is_not_run(states: StateFiles, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    states.save_checkpoint(state(1) | {"attack": Attack()}, states.folder)
    path, _ = states.recover()
    with pytest.raises(RunFolderError):
        states.load_checkpoint(path)
    assert not (tmp_path / "made").exists()


def test_what_a_killed_process_left_does_no_harm(states: StateFiles) -> None:
    keep(states, 1)
    (states.folder / ".99.partial").write_bytes(b"half")
    (states.folder / "step_000000009.ckpt").write_bytes(b"no checksum in its name")
    assert recovered(states) == 1
    keep(states, 2, 3)
    assert recovered(states) == 3
    assert not [*states.folder.glob(".*.partial")]


def test_a_run_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not take the state"):
        StateFiles(tmp_path / "gone/state").save_checkpoint(state(1), None)
    assert not (tmp_path / "gone").exists()


def refuse(*_: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_leaves_the_states_before(
    states: StateFiles, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = keep(states, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        with pytest.raises(RunFolderError, match=r"No space left on device\): make room"):
            keep(states, 3)
    assert sorted(states.folder.iterdir()) == before
    keep(states, 3)
    assert recovered(states) == 3


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from tissueseg.errors import RunFolderError
from tissueseg.modules.state_files import StateFiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for room in (3_999_999, 10_000, 100, 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        StateFiles(Path(sys.argv[1])).save_checkpoint({"global_step": 9, "a": torch.zeros(10**6)}, None)
    except RunFolderError as error:
        print(error)
"""


def test_torch_s_writer_that_finds_no_room_is_an_error_in_one_line(states: StateFiles) -> None:
    before = keep(states, 1, 2)
    command = [sys.executable, "-c", FULL, str(states.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = done.stdout.splitlines()
    assert (len(said), done.stderr) == (4, "")
    assert all("does not take the state of the training" in line for line in said)
    assert sorted(states.folder.iterdir()) == before
    assert recovered(states) == 2


def test_a_state_is_an_ordinary_file_of_torch(states: StateFiles) -> None:
    (path,) = keep(states, 1)
    assert zipfile.is_zipfile(path)
    assert torch.load(path, weights_only=True)["rows"] == [{"loss": 0.5}]
    states.remove_checkpoint(path)
    assert recovered(states) is None
