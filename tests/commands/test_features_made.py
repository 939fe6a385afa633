"""`embeddings.make=true`: training stores the features it lacks, once, wherever they serve and can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feature_runs import WORDS, encoded, epochs, error_line, feature_store, write_cohort
from folders import same_files
from omegaconf import OmegaConf
from stores import compose, random_tissue, three_tissues

from tissueseg.composition import plain
from tissueseg.encoders.tiny import TinyEncoder
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.reporting.fingerprint import fingerprint, what_matters

Command = Callable[..., Any]  # name, overrides -> code, out, err

MAKE = "embeddings.make=true"
RUN = (*WORDS, MAKE, "epochs=1")


def no_features(folder: Path) -> bool:
    return not (folder / "cohort_embeddings").exists()


def test_features_are_stored_first_and_only_once(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = command("train", *RUN, "run_dir=one")
    assert (result.code, encoded(result.out)) == (0, ["a", "b", "c"]), result.err
    path = feature_store(here)
    first = f"encoded before training, since there are none in {path.parent}, and stored in {path}"
    stored = f"features: stored in {path} (1 view, float16); no encoder is built"
    assert f"\nfeatures: {first}\n{stored}\n" in result.out
    before = shutil.copytree(path, here / "before")

    def refuse(*_: Any) -> None:
        raise AssertionError("a tile is encoded")

    monkeypatch.setattr(TinyEncoder, "encode", refuse)
    result = command("train", *RUN, "run_dir=two")
    assert (result.code, encoded(result.out)) == (0, []), result.err
    assert stored in result.out
    assert "before training" not in result.out
    assert same_files(before, path)


@pytest.mark.parametrize("views", ["views=1", "views=4"])
def test_a_run_is_the_one_that_follows_embed(command: Command, here: Path, views: str) -> None:
    words = (*WORDS, "epochs=2", views, "features=stored")
    assert command("train", *words, MAKE, "run_dir=made").code == 0
    made = feature_store(here).rename(here / "made.zarr")
    shutil.rmtree(here / "cohort_embeddings")
    assert command("embed", *words).code == 0
    assert command("train", *words, "run_dir=embedded").code == 0
    assert epochs(here / "made") == epochs(here / "embedded")
    for tissue in "abc":
        assert same_files(made / tissue / "c", feature_store(here) / tissue / "c")


def test_of_a_grown_cohort_only_the_new_tissue_is_encoded(command: Command, here: Path) -> None:
    assert command("embed", *WORDS).code == 0
    write_cohort(here, three_tissues() | {"d": random_tissue(seed=7, patient="p_d")})
    result = command("train", *RUN)
    assert (result.code, encoded(result.out)) == (0, ["d"])
    assert f"since {feature_store(here).name} lacks 1 tissues (d), and stored in" in result.out


@pytest.mark.slow
def test_of_two_processes_one_encodes_for_both(here: Path) -> None:
    command = [sys.executable, "-m", "tissueseg.train", *RUN, "trainer.devices=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, encoded(done.stdout)) == (0, ["a", "b", "c"]), done.stderr
    assert done.stdout.count("encoded before training") == 1
    assert f"features: stored in {feature_store(here)}" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("features=online",), "encoded online. To encode them once"),
        (("augmentation=strong",), "encoded online, since augmentation has geometry."),
        (("finetune.lora=2",), "encoded online, since finetune.lora=2 changes the encoder"),
    ],
    ids=["online", "altered images", "fine-tuning"],
)
def test_nothing_is_made_that_would_not_serve(
    command: Command, here: Path, words: tuple[str, ...], says: str
) -> None:
    result = command("train", *RUN, *words)
    assert (result.code, encoded(result.out), no_features(here)) == (0, [], True), result.err
    assert f"features: {says}" in result.out
    assert MAKE not in result.out  # which `embed` need not be told


def file_in_the_way(folder: Path) -> str:
    (folder / "cohort_embeddings").write_text("not a folder")
    return "cohort_embeddings is no folder that can be written to"


def full_place(folder: Path) -> str:
    """What a look from outside does not tell."""
    (folder / "cohort_embeddings").symlink_to("/proc/nowhere")
    return "features cannot be written to"


def locked(folder: Path) -> str:
    (folder / "cohort_embeddings").mkdir(mode=0o500)
    return "cohort_embeddings is no folder that can be written to"


PLACES = [file_in_the_way, full_place, *([locked] if os.geteuid() else [])]


@pytest.mark.parametrize("spoil", PLACES)
def test_a_place_that_takes_none_leaves_training_online(
    command: Command, here: Path, spoil: Callable[[Path], str]
) -> None:
    says = spoil(here)
    error = error_line(command("train", *RUN, "features=stored", "run_dir=run"))
    assert says in error
    assert not (here / "run").exists()
    result = command("train", *RUN)
    assert result.code == 0, result.err
    (notice,) = (line for line in result.out.splitlines() if "are not stored" in line)
    assert notice.startswith("notice: features are not stored: ")
    assert says in notice
    assert "features: encoded online, since there are none in " in result.out


def test_an_address_takes_none(command: Command, here: Path) -> None:
    place = (f"embeddings.path=file://{here}/there.zarr", "run_dir=run")
    assert "embed writes to a local folder" in error_line(
        command("train", *RUN, *place, "features=stored")
    )
    result = command("train", *RUN, *place)
    assert (result.code, encoded(result.out)) == (0, [])
    assert "notice: features are not stored: embeddings.path=file://" in result.out


def test_a_run_that_goes_on_makes_none(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(module: SegmentationModule) -> None:
        if module.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "on_train_epoch_start", interrupt)
        words = ("features=stored", "epochs=2", "run_dir=run")
        assert command("train", *RUN, *words).code != 0
    shutil.rmtree(here / "cohort_embeddings")
    error = error_line(command("train", "resume=run"))
    assert error.startswith("error: features=stored, but there are none in ")
    assert no_features(here)


def test_who_scores_makes_none(command: Command, here: Path) -> None:
    assert command("train", *RUN, "run_dir=run").code == 0
    assert OmegaConf.load(here / "run/config.yaml").embeddings.make is True
    shutil.rmtree(here / "cohort_embeddings")
    result = command("evaluate", "run=run", "cells=false")
    assert (result.code, no_features(here)) == (0, True), result.err
    result = command("embed", *WORDS, MAKE, "embeddings.dtype=float32")
    assert (result.code, encoded(result.out)) == (0, ["a", "b", "c"])


@pytest.mark.parametrize("value", ["1", "null", "always"])
def test_it_is_true_or_false(command: Command, here: Path, value: str) -> None:
    error = error_line(command("train", *WORDS, f"embeddings.make={value}"))
    assert error.endswith("wanted true or false.\n")


def test_it_makes_no_other_run() -> None:
    made, other = (plain(compose(*WORDS, *words)) for words in ((MAKE,), ()))
    assert made != other
    assert what_matters(made) == what_matters(other)
    assert fingerprint(made, None, {}, "1") == fingerprint(other, None, {}, "1")
