"""Splits as a user meets them: chosen, told, kept in the store, used again, refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from stores import choices, compose, random_tissue, write_store

from tissueseg import assembly
from tissueseg.building import build
from tissueseg.store.named_splits import FOLDER
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err
OPTIONS = {
    "column": ["split.train=[one]", "split.val=[two]", "split.test=[three]"],
    "by_patient": ["split.train=1", "split.val=1", "split.test=1"],
}
FAST = (
    "modality=he",
    "decoder=baseline",
    "data={tile_px: 32, batch_size: 4}",
    "decoder.width=0.0625",
    "encoder.spec.channels=[16,16,16,16]",
    "class_weights=null",
    "epochs=1",
    "trainer.limit_train_batches=1",
    "panels={count: 1, size_px: 64}",
    "logger=csv",
    "store.path=s.zarr",
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tissues, which their source puts in three folds."""
    folds = [*("one",) * 4, *("two",) * 2, *("three",) * 2]
    tissues = {f"t{i}": random_tissue(seed=i, split=fold) for i, fold in enumerate(folds)}
    return write_store(tmp_path_factory.mktemp("splits") / "s.zarr", tissues).path


@pytest.fixture
def in_folder(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stored, tmp_path / "s.zarr")
    return tmp_path


def sides(run: Path) -> dict[str, list[str]]:
    return json.loads((run / "environment.json").read_text())["split"]


@pytest.mark.parametrize("choice", [c for c in choices("split") if c != "named"])
def test_every_choice_splits_a_cohort_and_has_a_name_of_its_own(stored: Path, choice: str) -> None:
    store = TissueStore(stored)
    config = compose(f"split={choice}", *OPTIONS.get(choice, []))
    split = assembly.open_split(config, store)
    assert split.train
    assert split.val
    assert split.test or choice == "sequential"
    assert build(config.split).label.startswith(choice.removesuffix("_with_test"))


def test_a_run_keeps_its_split_by_name_and_another_uses_it(
    in_folder: Path, command: Command
) -> None:
    result = command("train", *FAST, "split=kfold", "split.folds=4", "run_dir=one")
    assert result.code == 0, result.err
    file = in_folder / "s.zarr" / FOLDER / "kfold_4_fold_1.json"
    assert f"split kfold_4_fold_1: kept in s.zarr/{FOLDER}/kfold_4_fold_1.json" in result.out
    assert OmegaConf.load(in_folder / "one/config.yaml").split.name == "kfold_4_fold_1"
    kept = json.loads(file.read_text())
    assert {side: list(t) for side, t in kept["sides"].items() if t} == sides(in_folder / "one")
    assert kept["rule"] == {"split": "kfold", "folds": 4, "fold": 1, "order": "sequential"}
    before = file.read_bytes()

    given = ("split=named", "split.name=kfold_4_fold_1", "run_dir=two")
    result = command("train", *FAST, *given)
    assert (result.code, result.err) == (0, "")
    assert sides(in_folder / "two") == sides(in_folder / "one")
    assert file.read_bytes() == before
    assert command("evaluate", "run=two", "side=test").code == 0
    assert command("doctor", *FAST, *given).code == 0


def test_another_split_under_a_name_that_is_taken_is_refused(
    in_folder: Path, command: Command
) -> None:
    config = compose("split=kfold", "split.name=mine")
    store = TissueStore("s.zarr")
    assembly.name_split(config, store, assembly.open_split(config, store))
    result = command("train", *FAST, "split=quarters", "split.name=mine", "run_dir=run")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "split.name=mine is taken by another split in s.zarr/.splits/mine.json" in result.err
    assert "it was made by split=kfold folds=5 fold=1" in result.err
    assert not (in_folder / "run").exists()


def test_a_store_that_takes_no_files_costs_one_notice(in_folder: Path, command: Command) -> None:
    (in_folder / "s.zarr" / FOLDER).touch()
    result = command("train", *FAST, "split=quarters", "run_dir=run")
    assert result.code == 0, result.err
    (line,) = [line for line in result.out.splitlines() if "quarters_fold_1_val_0.2" in line]
    assert line.startswith("notice: split quarters_fold_1_val_0.2 is not kept by name in the store")
    assert OmegaConf.load(in_folder / "run/config.yaml").split.name == "quarters_fold_1_val_0.2"


REFUSED = {
    "split=stated": "column",
    "split=quarters split.fold=3": "split.fold=3, wanted a whole number of at least 1 and at most 2",
    "split=quarters split.val=0": "split.val=0, wanted a finite number > 0 and < 1",
    "split=kfold split.fold=0": "split.fold=0, wanted a whole number of at least 1",
    "split=kfold split.order=random": "choose from sequential, shuffled",
    "split=by_patient split.seed=now": "split.seed=now, wanted a whole number",
    "split=by_patient split.val=0": "must be > 0",
    "split=column split.table=missing.csv": "split.table=missing.csv: no such file",
    "split=column split.table=cut.csv": "has no column split; it has tissue, fold",
    "split=named": "give split.name=…",
    "split=kfold split.name=a/b": "split.name='a/b' cannot name a file",
    "split=kfold split.names=a": "split.names",
}


@pytest.mark.parametrize(("words", "said"), REFUSED.items())
def test_options_are_refused_before_a_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, words: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.csv").write_text("tissue,fold\na,1\n")
    result = command("train", *FAST, *words.split())  # there is no store
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["cut.csv"]


COHORT_REFUSED = {
    "split=kfold split.folds=9": "split.folds=9 takes 9 patients at least, but the store holds 8",
    "split=column": "tissue t0 is in 'one' of its source, which stands under no side",
    "split=column split.table=own.csv": "has no row for tissues t1, t2, t3, t4 and 3 more",
    "split=named split.name=lost": "s.zarr keeps no split of this name",
}


@pytest.mark.parametrize(("words", "said"), COHORT_REFUSED.items())
def test_cohorts_that_cannot_be_split_so_are_refused(
    in_folder: Path, command: Command, words: str, said: str
) -> None:
    (in_folder / "own.csv").write_text("tissue,split\nt0,train\n")
    result = command("train", *FAST, *words.split())
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err
    assert not (in_folder / "s.zarr" / FOLDER).exists()
