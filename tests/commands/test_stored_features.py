"""Training and scoring on stored features: the same numbers as encoding online, or one line why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from feature_runs import (
    WEIGHTED,
    WORDS,
    encoded,
    epochs,
    error_line,
    feature_store,
    write_cohort,
    write_weights,
)
from omegaconf import OmegaConf
from run_scores import of_pixels
from stores import random_tissue, three_tissues

from tissueseg import features
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.store.embeddings import EmbeddingStore

Command = Callable[..., Any]  # name, overrides -> code, out, err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cohort; tiles of 32 px do not fill its tissues."""
    monkeypatch.chdir(tmp_path)
    write_cohort(tmp_path, three_tissues(72))
    return tmp_path


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, whoever builds an encoder to train or score with fails."""
    import_module("tissueseg.prediction")  # it keeps what it finds when it is first imported

    def refuse(*_: Any) -> None:
        raise AssertionError("an encoder is built")

    return lambda: monkeypatch.setattr(features, "build_encoder", refuse)


SCORES = 0.01
"""Dice that a pixel or two near the border of two classes may cost in float16."""

VIEWS = ("modality=he_sp", "encoder.halo_px=8", "views.dihedral=8", "views.extra=2")


@pytest.mark.parametrize(
    ("dtype", "tolerance", "given"),
    [
        ("float32", 1e-5, ()),
        ("float16", 2e-3, ()),
        ("float32", 1e-5, VIEWS),
        ("float16", 2e-3, VIEWS),
    ],
    ids=["float32", "float16", "float32, all views", "float16, all views"],
)
def test_a_run_is_the_same_with_stored_features(
    command: Command,
    here: Path,
    no_encoder: Callable[[], None],
    dtype: str,
    tolerance: float,
    given: tuple[str, ...],
) -> None:
    words = (*WORDS, *given, f"embeddings.dtype={dtype}", "epochs=2")
    assert command("embed", *words).code == 0
    assert command("train", *words, "features=online", "run_dir=online").code == 0
    no_encoder()
    result = command("train", *words, "features=stored", "run_dir=stored")
    assert result.code == 0, result.err
    path = str(feature_store(here))
    assert f"features: stored in {path}" in result.out
    for run, said in (("stored", f"stored in {path}"), ("online", "encoded online")):
        about = json.loads((here / run / "environment.json").read_text())
        assert about["features"] == said
        held = EmbeddingStore(feature_store(here)).fingerprint if run == "stored" else None
        assert about["embeddings"] == held
    stored, online = epochs(here / "stored"), epochs(here / "online")
    for loss in ("train/loss", "val/loss", "val/loss/ce"):
        assert stored[0][loss] == pytest.approx(online[0][loss], rel=tolerance)
    for score in (key for key in online[0] if key.startswith(("val/dice", "val/iou"))):
        assert stored[0][score] == pytest.approx(online[0][score], abs=SCORES)


@pytest.fixture
def trained(command: Command, here: Path) -> Path:
    """The folder of a run on stored features."""
    assert command("embed", *WORDS).code == 0
    result = command("train", *WORDS, "features=stored", "epochs=2", "run_dir=run")
    assert result.code == 0, result.err
    return here / "run"


def test_a_run_is_scored_again_on_stored_features(
    command: Command, trained: Path, no_encoder: Callable[[], None]
) -> None:
    no_encoder()
    before = json.loads((trained / "metrics.json").read_text())
    for side in ("val", "test"):
        result = command("evaluate", f"run={trained}", f"side={side}", "cells=false")
        assert result.code == 0, result.err
        assert "features: stored in " in result.out
        after = json.loads((trained / f"evaluation/{side}/metrics.json").read_text())
        assert of_pixels(before[side]) == of_pixels(after[side])


def test_a_run_on_stored_features_is_scored_online_too(command: Command, trained: Path) -> None:
    before = json.loads((trained / "metrics.json").read_text())["val"]["pooled"]
    shutil.rmtree(feature_store(trained.parent))
    result = command("evaluate", f"run={trained}", "features=stored")
    assert "there are none in" in error_line(result)
    result = command("evaluate", f"run={trained}")
    assert (result.code, "features: encoded online, since there are none" in result.out) == (
        0,
        True,
    )
    after = json.loads((trained / "evaluation/val/metrics.json").read_text())["val"]["pooled"]
    assert after["dice"] == pytest.approx(before["dice"], abs=SCORES)


def test_a_run_keeps_the_store_that_was_named(
    command: Command, here: Path, no_encoder: Callable[[], None]
) -> None:
    named = (*WORDS, "embeddings.path=elsewhere/features.zarr", "views=4")
    assert command("embed", *named).code == 0
    assert command("train", *named, "features=stored", "epochs=1", "run_dir=run").code == 0
    no_encoder()
    (here / "other").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here / "other")
        result = command("evaluate", "run=../run", "features=stored")
    assert f"stored in {here / 'elsewhere/features.zarr'}" in result.out


def test_a_run_from_before_features_were_stored_is_scored(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    config = OmegaConf.load(run / "config.yaml")
    for key in ("features", "embeddings", "views"):
        del config[key]
    for key in ("shuffle", "prefetch"):
        del config.data[key]
    OmegaConf.save(config, run / "config.yaml")
    before = json.loads((run / "metrics.json").read_text())
    assert command("evaluate", f"run={run}").code == 0
    after = json.loads((run / "evaluation/val/metrics.json").read_text())
    assert of_pixels(before["val"]) == of_pixels(after["val"])


def test_weights_need_not_be_named(command: Command, here: Path) -> None:
    words, weights = (*WORDS, *WEIGHTED), write_weights(here / "one.safetensors", seed=1)
    assert command("embed", *words, weights).code == 0
    (here / "one.safetensors").rename(here / "moved.safetensors")
    result = command("train", *words, "features=stored", "epochs=1", "run_dir=run")
    assert result.code == 0, result.err
    assert command("evaluate", "run=run", "features=stored").code == 0
    shutil.rmtree(feature_store(here))
    assert "encoder=cellvit_256 has no weights" in error_line(command("evaluate", "run=run"))
    moved = "encoder.weights=moved.safetensors"
    assert command("evaluate", "run=run", moved, "features=online").code == 0
    other = write_weights(here / "two.safetensors", seed=2)
    assert "sha256" in error_line(command("evaluate", "run=run", other))


def test_a_run_finds_features_by_itself_and_says_so(command: Command, here: Path) -> None:
    words = (*WORDS, "epochs=1")
    result = command("train", *words)
    none = (
        f"encoded online, since there are none in {here / 'cohort_embeddings'}. To encode them once"
    )
    assert (result.code, f"features: {none}" in result.out) == (0, True)
    assert command("embed", *words).code == 0
    result = command("train", *words, "features=online")
    assert "features: encoded online. To encode them once" in result.out
    result = command("train", *words)
    path = feature_store(here)
    assert f"features: stored in {path} (1 view, float16); no encoder is built" in result.out


def test_a_changed_image_makes_features_stale(command: Command, here: Path) -> None:
    assert command("embed", *WORDS).code == 0
    write_cohort(here, three_tissues(72) | {"b": random_tissue(72, 72, 9, patient="p_b")})
    name = feature_store(here).name
    reason = f"{name} was made from other images of 1 tissues (b)"
    error = error_line(command("train", *WORDS, "features=stored"))
    assert f"features=stored, but {reason}. Make them first (" in error
    result = command("train", *WORDS, "epochs=1")
    assert (result.code, f"encoded online, since {reason}. To" in result.out) == (0, True)
    result = command("embed", *WORDS)
    assert (result.code, encoded(result.out)) == (0, ["b"])
    assert command("train", *WORDS, "features=stored", "epochs=1").code == 0


def remove(store: Path) -> None:
    shutil.rmtree(store)


def replace_by_other_weights(store: Path) -> None:
    """Another seed's features under the very same name."""
    shutil.rmtree(store)
    (store.parent / "other.zarr").rename(store)


@pytest.mark.parametrize("harm", [remove, replace_by_other_weights])
def test_features_that_change_under_a_run_end_it(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    assert command("embed", *WORDS).code == 0
    other = (*WORDS, "encoder.seed=1", "embeddings.path=cohort_embeddings/other.zarr")
    assert command("embed", *other).code == 0
    (named,) = (here / "cohort_embeddings").glob("tiny*.zarr")

    def begin(module: SegmentationModule) -> None:
        if module.current_epoch == 1:
            harm(named)

    monkeypatch.setattr(SegmentationModule, "on_train_epoch_start", begin)
    error = error_line(command("train", *WORDS, "features=stored", "epochs=3"))
    assert named.name in error
