"""`python -m tissueseg.evaluate`: the same numbers again, on any side, and nothing that does not fit."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_runs import WORDS
from omegaconf import OmegaConf

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.demo import CLASSES, PANEL
from tissueseg.store.planes import Tissue
from tissueseg.store.writer import TissueWriter

Command = Callable[..., Any]  # name, overrides -> code, out, err


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.mark.parametrize("side", ["val", "test"])
def test_scores_are_those_of_training(command: Command, run: Path, side: str) -> None:
    size = OmegaConf.load(run / "config.yaml").data.batch_size  # the study's score depends on it
    result = command("evaluate", f"run={run}", f"side={side}", f"data.batch_size={size}")
    assert result.code == 0
    before = json.loads((run / "metrics.json").read_text())
    after = json.loads((run / f"evaluation/{side}/metrics.json").read_text())
    assert before[side].items() <= after[side].items()
    assert after["run"] == before["run"]
    assert list((run / f"evaluation/{side}/panels").glob("*.png"))


def test_another_store_is_scored_whole(command: Command, run: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path / "other.zarr", names=None)
    result = command("evaluate", f"run={run}", f"store.path={path}", f"out={tmp_path / 'out'}")
    assert result.code == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert list(metrics["other"]["tissues"]) == ["a", "b"]


@pytest.fixture
def own_store(command: Command, tmp_path: Path) -> Path:
    """A run on a store of its own, named relative to where it was started."""
    make_store(tmp_path / "own.zarr", names=None, tissues="abc")
    overrides = ("+debug=fast", "logger=csv", "store.path=own.zarr", "run_dir=own_run")
    overrides += ("split={train: 1, val: 1, test: 1}",)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert command("train", *overrides).code == 0
    return tmp_path


def test_a_run_finds_its_store_from_anywhere(command: Command, own_store: Path) -> None:
    assert command("evaluate", f"run={own_store / 'own_run'}").code == 0


def test_training_tissues_are_not_scored_as_others(command: Command, own_store: Path) -> None:
    run, store = own_store / "own_run", own_store / "own.zarr"
    result = command("evaluate", f"run={run}", f"store.path={store}")
    assert result.code == 2
    assert "1 tissues of this store, such as a, trained the decoder" in result.err
    shutil.rmtree(store)
    make_store(store, names=None, tissues="bca")
    result = command("evaluate", f"run={run}")
    assert result.code == 2
    assert "the split no longer holds" in result.err


def test_a_damaged_store_is_said_before_anything_runs(command: Command, own_store: Path) -> None:
    shutil.rmtree(own_store / "own.zarr/b/sp")
    result = command("evaluate", f"run={own_store / 'own_run'}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "tissue b has no sp" in result.err


def test_a_run_is_not_overwritten(command: Command, run: Path) -> None:
    before = (run / "metrics.json").read_text()
    assert command("evaluate", f"run={run}", f"out={run}").code == 2
    assert (run / "metrics.json").read_text() == before


def test_another_panel_is_refused(command: Command, run: Path, tmp_path: Path) -> None:
    path = make_store(tmp_path / "other.zarr", names=None, panel=PANEL[:5])
    result = command("evaluate", f"run={run}", f"store.path={path}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "panel" in result.err


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
    assert "sha256" in result.err


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


def make_store(
    path: Path,
    names: tuple[str, ...] | None,
    tissues: str = "ab",
    panel: tuple[Channel, ...] = PANEL,
) -> Path:
    rng = np.random.default_rng(0)
    labels = np.zeros((96, 96), np.int32)
    labels[8:20, 8:20] = 1
    table = (
        CLASSES if names is None else [TissueClass(i, n, "#ff0000") for i, n in enumerate(names)]
    )
    with TissueWriter(path, mpp=0.5, classes=table, panel=panel) as out:
        for name in tissues:
            he = rng.integers(0, 255, (3, 96, 96)).astype(np.uint8)
            sp = rng.poisson(20, (len(panel), 96, 96)).astype(np.uint16)
            out.add(name, Tissue(labels, labels, he, sp))
    return path


ALONE = "workers=0"


def test_cells_are_scored_with_the_averaging_in_their_names(command: Command, run: Path) -> None:
    result = command("evaluate", f"run={run}", ALONE)
    assert result.code == 0, result.err
    assert "bPQ" in result.out
    folder = run / "evaluation/val"
    cells = json.loads((folder / "metrics.json").read_text())["val"]["cells"]
    scores = cells["scores"]
    for key in ("bpq_image", "bpq_tissue", "bpq_plus", "mpq_plus", "aji_image", "aji_plus_pooled"):
        assert scores[key] is None or 0 <= scores[key] <= 1
    for key in ("detection_f1_pooled", "boundary_f1_image", "binary_dice_pooled", "ece_pooled"):
        assert key in scores
    (tissue,) = cells["tissues"]
    assert cells["tissues"][tissue]["bpq_plus"] == scores["bpq_plus"]  # there is one tissue
    assert set(cells["groups"]) == {tissue}
    keyed = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert keyed["val/bpq_image"] == scores["bpq_image"]
    assert {"val/dice/macro_foreground", "val/dice/tumor", "val/dice_study_batch16"} <= set(keyed)
    with (folder / "tissues.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["bpq_plus"]) == scores["bpq_plus"]
    assert {"classes.csv", "cell_types.csv", "reliability.csv"} <= {
        p.name for p in folder.iterdir()
    }
    assert (folder / f"panels/{tissue}_cells.png").is_file()


def test_cells_need_not_be_scored(command: Command, run: Path) -> None:
    result = command("evaluate", f"run={run}", "cells=false")
    assert (result.code, "bPQ" in result.out) == (0, False)
    side = json.loads((run / "evaluation/val/metrics.json").read_text())["val"]
    assert "cells" not in side
    assert 0 <= side["study"]["dice_study_batch16"] <= 1


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("cells=perhaps", "wanted auto, true or false"),
        ("groups='('", "groups=( is no pattern"),
        ("groups='xyz_(.*)'", "finds no group in"),
        ("instances=hv", "choose instances=boundary or components"),
        ("views=2", "choose from 1, 4, 8"),
    ],
)
def test_options_of_cells_are_refused_in_one_line(
    command: Command, run: Path, word: str, said: str
) -> None:
    result = command("evaluate", f"run={run}", ALONE, word)
    assert (result.code, result.err.count("\n"), said in result.err) == (2, 1, True), result.err


def test_what_evaluate_scores_is_what_predict_finds(command: Command, run: Path) -> None:
    assert command("evaluate", f"run={run}", ALONE).code == 0
    cells = json.loads((run / "evaluation/val/metrics.json").read_text())["val"]["cells"]
    (tissue,) = cells["tissues"]
    words = (f"tissues=[{tissue}]", ALONE, "preview=false", "formats=[csv]")
    assert command("predict", f"run={run}", *words).code == 0
    with next((run / "prediction").glob(f"*/{tissue}/cells.csv")).open() as file:
        found = len(list(csv.DictReader(file)))
    assert sum(map(sum, zip(*cells["types"], strict=True))) >= found
    detected = np.array(cells["types"])[:, 1:].sum()
    assert detected == found


def test_nuclei_without_types_are_scored_too(command: Command, here: Path) -> None:
    words = ("decoder=instance", "monitor=val/dice/nucleus", "epochs=1", "run_dir=run")
    assert command("train", *WORDS, *words).code == 0
    result = command("evaluate", "run=run", ALONE)
    assert result.code == 0, result.err
    cells = json.loads((here / "run/evaluation/val/metrics.json").read_text())["val"]["cells"]
    assert cells["type_names"] == ["nothing", "nucleus"]
    assert "hv_mse_pooled" in cells["scores"]
    assert not {"mpq_image", "ece_pooled"} & set(cells["scores"])
    assert "reliability" not in cells
    with (here / "run/evaluation/val/cell_types.csv").open() as file:
        assert len(list(csv.reader(file))) == 3
