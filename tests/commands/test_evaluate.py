"""`python -m tissueseg.evaluate`: the same numbers again, on any side, and nothing that does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tissueseg.contracts import TissueClass
from tissueseg.store.checks import Tissue
from tissueseg.store.demo import PANEL
from tissueseg.store.writer import TissueWriter

Command = Callable[..., Any]  # name, overrides -> code, out, err


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.mark.parametrize("side", ["val", "test"])
def test_scores_are_those_of_training(command: Command, run: Path, side: str) -> None:
    result = command("evaluate", f"run={run}", f"side={side}")
    assert result.code == 0
    before = json.loads((run / "metrics.json").read_text())
    after = json.loads((run / f"evaluation/{side}/metrics.json").read_text())
    assert after[side] == before[side]
    assert after["run"] == before["run"]
    assert list((run / f"evaluation/{side}/panels").glob("*.png"))


def test_another_store_is_scored_whole(command: Command, run: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path / "other.zarr", names=None)
    result = command("evaluate", f"run={run}", f"store.path={path}", f"out={tmp_path / 'out'}")
    assert result.code == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert list(metrics["other"]["tissues"]) == ["a", "b"]


def test_other_classes_are_refused(command: Command, run: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path / "other.zarr", names=("background", "nucleus"))
    result = command("evaluate", f"run={run}", f"store.path={path}")
    assert result.code == 2
    assert "classes" in result.err
    assert result.err.count("\n") == 1


def test_another_encoder_is_refused(command: Command, run: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("heads: 4\n  seed: 0", "heads: 4\n  seed: 1"))
    result = command("evaluate", f"run={run}")
    assert result.code == 2
    assert "weights" in result.err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "run=<run folder>"),
        (("run=missing",), "holds no config.yaml"),
        (("run={run}", "side=all"), "val, test, train"),
        (("run={run}", "store.path=missing"), "missing"),
    ],
)
def test_mistakes_are_one_line(
    command: Command, run: Path, overrides: tuple[str, ...], said: str
) -> None:
    result = command("evaluate", *(o.format(run=run) for o in overrides))
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"not a checkpoint"])
def test_a_damaged_checkpoint_is_said(command: Command, run: Path, content: bytes | None) -> None:
    checkpoint = run / "decoder.ckpt"
    checkpoint.unlink() if content is None else checkpoint.write_bytes(content)
    result = command("evaluate", f"run={run}")
    assert result.code == 2
    assert "decoder.ckpt" in result.err


def make_store(path: Path, names: tuple[str, ...] | None) -> Path:
    from tissueseg.store.demo import CLASSES

    rng = np.random.default_rng(0)
    labels = np.zeros((96, 96), np.int32)
    labels[8:20, 8:20] = 1
    table = (
        CLASSES if names is None else [TissueClass(i, n, "#ff0000") for i, n in enumerate(names)]
    )
    with TissueWriter(path, mpp=0.5, classes=table, panel=PANEL) as out:
        for name in "ab":
            he = rng.integers(0, 255, (3, 96, 96)).astype(np.uint8)
            sp = rng.poisson(20, (len(PANEL), 96, 96)).astype(np.uint16)
            out.add(name, Tissue(labels, labels, he, sp))
    return path
