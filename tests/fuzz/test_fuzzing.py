"""The harness itself: what is read, refused, raised or dies is told apart, and can be made again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random

from fuzz.fuzzing import fuzz, spoil

from tissueseg.errors import TissueDataError


def make(random: Random, place: Path) -> Path:
    path = place / "input"
    path.write_bytes(random.randbytes(4))
    return path


def read(path: Path) -> None:
    match int(path.parent.name) % 5:
        case 1:
            raise TissueDataError(f"{path.name} is spoilt: mend it.")
        case 2:
            raise KeyError(path.name)
        case 3:
            os.kill(os.getpid(), signal.SIGKILL)


def test_every_end_of_an_input_is_counted(tmp_path: Path) -> None:
    found = fuzz(make, read, tmp_path / "inputs", first=4, count=10)  # 4 … 13, each end twice
    assert (found.read, found.refused) == (4, 2)
    assert list(found.reasons.values()) == ["input is spoilt: mend it."]
    killed, raised = sorted(found.crashes.values())[::-1]
    assert (killed.number, killed.where) == (8, "process ended by SIGKILL")
    assert raised.number == 7
    assert raised.where.startswith("KeyError test_fuzzing.py:")
    assert "KeyError: 'input'" in raised.trace
    kept = sorted(path.name for path in (tmp_path / "inputs").iterdir())
    assert kept == ["12", "13", "7", "8"]  # every process keeps what it had not met


def test_inputs_depend_on_their_number_alone() -> None:
    data = bytes(range(256))
    assert [spoil(Random(n), data) for n in range(9)] == [spoil(Random(n), data) for n in range(9)]
    assert len({spoil(Random(n), data) for n in range(99)}) > 50
