"""`evaluate` in several processes: the scores of one, written once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stained_runs import stained, stained_run
from stores import write_store

Command = Callable[..., Any]  # name, overrides -> code, out, err
Cli = Callable[..., CompletedProcess[str]]

TISSUES = {name: stained(96, 96, 10 + seed) for seed, name in enumerate("uvw")}
WORDS = ("workers=0", "data.batch_size=2", "panels.count=2", "panels.size_px=64")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose cells can be found, not to be changed."""
    return stained_run(tmp_path_factory.mktemp("trained"), "epochs=4")


@pytest.fixture
def words(run: Path, tmp_path: Path) -> tuple[str, ...]:
    """Of every command: three tissues of another store."""
    store = write_store(tmp_path / "other.zarr", TISSUES).path
    return (f"run={run}", f"store.path={store}", *WORDS)


def scores_of(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


def leaves(found: Any, key: str = "") -> dict[str, Any]:
    """Every value of nested dictionaries and lists, under its path."""
    if not isinstance(found, dict | list):
        return {key: found}
    items = found.items() if isinstance(found, dict) else enumerate(found)
    return {k: v for name, value in items for k, v in leaves(value, f"{key}/{name}").items()}


def assert_same_scores(one: Path, two: Path) -> None:
    """Counts alike, and scores but for the order in which floats are added up."""
    left, right = leaves(scores_of(one)), leaves(scores_of(two))
    assert list(left) == list(right)
    assert len(left) > 100
    for key, value in left.items():
        wanted = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        assert right[key] == wanted, key


def assert_same_pictures(one: Path, two: Path) -> None:
    names = sorted(p.name for p in (one / "panels").iterdir())
    assert names == sorted(p.name for p in (two / "panels").iterdir())
    assert len(names) == 4  # of two tissues, their classes and their cells
    for name in names:
        left, right = (np.asarray(Image.open(out / "panels" / name)) for out in (one, two))
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_two_processes_score_as_one_does(
    command: Command, run_cli: Cli, words: tuple[str, ...], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone = command("evaluate", *words, f"out={one}")
    assert alone.code == 0, alone.err
    both = run_cli("evaluate", *words, f"out={two}", "trainer.devices=2")
    assert (both.returncode, both.stderr) == (0, "")
    assert scores_of(one)["other"]["cells"]["scores"]["bpq_tissue"] > 0.2  # cells were found
    assert_same_scores(one, two)
    assert_same_pictures(one, two)
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())
    confusions = [np.load(out / "confusion.npy") for out in (one, two)]
    np.testing.assert_array_equal(*confusions)
    lines = both.stdout.splitlines()
    for tissue in TISSUES:  # whichever process speaks of it
        assert sum(line.startswith(f"{tissue}: ") for line in lines) == 1
    assert sum(str(two) in line for line in lines) == 1  # the leader alone says the rest


def test_more_processes_than_tissues_find_the_same_cells(
    command: Command, run_cli: Cli, run: Path, tmp_path: Path
) -> None:
    one, three = tmp_path / "one", tmp_path / "three"
    given = (f"run={run}", "side=test", *WORDS)
    assert command("evaluate", *given, f"out={one}").code == 0
    result = run_cli("evaluate", *given, f"out={three}", "trainer.devices=3")
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_scores(one, three)


def test_what_is_wrong_is_said_once(run_cli: Cli, run: Path, tmp_path: Path) -> None:
    result = run_cli("evaluate", f"run={run}", "store.path=nowhere.zarr", "trainer.devices=2")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "no tissue store at nowhere.zarr" in result.stderr
