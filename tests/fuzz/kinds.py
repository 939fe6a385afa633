"""Kinds of spoilt files: how one is made, how it is read, and the line that tells what became of all."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from fuzz.fuzzing import Fuzzed, Make, Read, fuzz


class Kind(NamedTuple):
    """How an input is made and read."""

    make: Make
    read: Read


def check(name: str, kind: Kind, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fuzz a kind, print what came of it, and fail with the crashes."""
    found = fuzz(kind.make, kind.read, folder)
    with capsys.disabled():
        print(f"\n{told(name, found)}", flush=True)
    traces = [
        f"input {crash.number}: {crash.where}\n{crash.trace}" for crash in found.crashes.values()
    ]
    assert not traces, "\n".join([told(name, found), *traces])
    assert found.read, f"{name}: nothing was read: {list(found.reasons.values())[:3]}"
    long = [said for said in found.reasons.values() if "\n" in said]
    assert not long, f"{name}: an error of several lines: {long[0]!r}"


def told(name: str, found: Fuzzed) -> str:
    """One line."""
    return (
        f"{name}: {found.seconds / 60:.1f} min of CPU, {found.read + found.refused + _crashed(found)} "
        f"inputs, {found.read} read, {found.refused} refused for {len(found.reasons)} reasons, "
        f"{len(found.crashes)} crashes"
    )


def _crashed(found: Fuzzed) -> int:
    return len(found.crashes)
