"""Fixtures of several tests of stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from claims_made import PATIENCE_S

from tissueseg.store.claims import Claims


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Claims]]:
    """Make workers that share a folder, and whose hearts do not beat while the test lasts."""
    made: list[Claims] = []

    def make(patience_s: float = PATIENCE_S, beat_s: float = PATIENCE_S / 2) -> Claims:
        made.append(Claims(tmp_path / "claims", patience_s, beat_s))
        return made[-1]

    yield make
    for each in made:
        each.close()
