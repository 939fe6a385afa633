"""`pretrain`: encoders that learn without labels, what they leave, and how that is used."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from feature_runs import error_line
from PIL import Image
from pretrain_runs import (
    ENCODERS,
    SIDES,
    STEPS,
    assert_same_run,
    table,
    vectors,
    words,
    write_all,
)
from safetensors import safe_open
from safetensors.torch import load_file
from stopped_runs import Place, interrupted_run, stopped_at, watched
from stores import TINY

from tissueseg import pretraining_job
from tissueseg.command import run_command
from tissueseg.modules.marker_scores import MarkerTally
from tissueseg.modules.pretraining import PretrainingModule
from tissueseg.pretrain import pretrain
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err
MODALITIES = ("sp", "he")
MARKERS = {"sp": ["DAPI", "CD3"], "he": ["red", "green", "blue"]}
both = pytest.mark.parametrize("modality", MODALITIES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stores and markers."""
    return write_all(tmp_path_factory.mktemp("pretrain"))


@pytest.fixture(scope="module")
def runs(made: Path, demo_cache: Path) -> dict[str, Path]:
    """A finished run of each modality, not to be changed, and the batches it took."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for modality in MODALITIES:
            found[modality] = made / f"run_{modality}"
            given = (*words(made, modality), f"run_dir={found[modality]}")
            patch.setattr("sys.argv", ["tissueseg.pretrain", *given])
            run_command("pretrain", pretrain)
    return found


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def scores(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


@both
def test_a_run_leaves_the_encoder_its_scores_and_pictures(
    runs: dict[str, Path], modality: str
) -> None:
    folder = runs[modality]
    assert [row["epoch"] for row in rows(folder)] == [0, 1]
    assert all(math.isfinite(v) for row in rows(folder) for v in row.values())
    assert {"train/loss", "val/loss", "lr"} < rows(folder)[0].keys()
    found = scores(folder)
    assert [row["marker"] for row in found["markers"]] == MARKERS[modality]
    assert found["name"] == folder_name(modality)
    for row in found["markers"]:
        assert row["pixels"] > 0
        assert -1 <= row["correlation"] <= 1
        assert found[f"val/correlation/{row['marker']}"] == row["correlation"]
    correlations = [row["correlation"] for row in found["markers"]]
    mean = sum(correlations) / len(correlations)
    assert found["val/correlation/mean"] == pytest.approx(mean)
    with (folder / "markers.csv").open() as file:
        assert [row["marker"] for row in csv.DictReader(file)] == MARKERS[modality]
    (picture,) = (folder / "panels").glob("*.png")
    assert picture.name == "b_0_0.png"
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 32
    assert not (folder / "state").exists()
    assert {"config.yaml", "environment.json", "cost.json"} < {p.name for p in folder.iterdir()}


def folder_name(modality: str) -> str:
    return {
        "sp": "tiny-sp-virtues_demo_random_init",
        "he": "tiny-he-vit_demo_random_init",
    }[modality]


@both
def test_the_file_says_how_it_was_made(runs: dict[str, Path], modality: str) -> None:
    with safe_open(runs[modality] / "encoder.safetensors", "pt") as file:
        said = json.loads(file.metadata()["config"])
    assert said["trained_by"] == "tissueseg.pretrain"
    assert (said["mpp"], said["epochs"]) == (0.5, 2)
    assert len(said["transformations.normalize.mean"]) == 3


@both
def test_something_is_learnt(runs: dict[str, Path], modality: str) -> None:
    first, last = rows(runs[modality])
    assert last["val/loss"] < first["val/loss"]


@both
def test_a_decoder_is_trained_on_what_was_learnt(
    command: Command, made: Path, runs: dict[str, Path], tmp_path: Path, modality: str
) -> None:
    weights = runs[modality] / "encoder.safetensors"
    given = (
        *TINY,
        f"modality={modality}",
        *(w for w in ENCODERS[modality] if not w.startswith("autoencoder")),
        "encoder.heads=2",
        "encoder.mpp=0.5",
        f"encoder.weights={weights}",
        "encoder.random_init=false",
        *vectors(table(made), modality),
        f"store.path={made / 's.zarr'}",
        "features=online",
        "epochs=1",
    )
    result = command("train", *given, f"run_dir={tmp_path / 'run'}")
    assert result.code == 0, result.err
    assert "0 missing" in result.out
    about = json.loads((tmp_path / "run/environment.json").read_text())
    assert "random" not in scores(tmp_path / "run")["encoder"]
    assert about["encoder"]["accounting"]["missing"] == 0
    (row,) = rows(tmp_path / "run")
    assert math.isfinite(row["train/loss"])
    assert math.isfinite(row["val/loss"])


PLACES = {
    "in its first batch": [Place(0, 0)],
    "within an epoch": [Place(1, 1)],
    "between epochs and within one": [Place(0, 2, "val"), Place(1, 0)],
}


@both
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_a_stopped_run_takes_every_batch_once_and_ends_the_same(
    command: Command,
    made: Path,
    runs: dict[str, Path],
    tmp_path: Path,
    modality: str,
    places: list[Place],
) -> None:
    given = words(made, modality)
    taken = interrupted_run(
        command, given, tmp_path / "run", stopped_at(*places), "pretrain", PretrainingModule
    )
    steps = [place for place in taken if place.side == "train"]
    assert steps == [Place(epoch, batch) for epoch in (0, 1) for batch in range(STEPS)]
    assert_same_run(tmp_path / "run", runs[modality])


@both
def test_a_run_stopped_while_it_scores_scores_again(
    command: Command,
    made: Path,
    runs: dict[str, Path],
    tmp_path: Path,
    modality: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add, run = MarkerTally.add, tmp_path / "run"

    def stopped(self: MarkerTally, guesses: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        add(self, guesses)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining_job, "_AT_A_TIME", 1)
        patch.setattr(MarkerTally, "add", stopped)
        result = command("pretrain", *words(made, modality), f"run_dir={run}")
    assert result.code == 128 + signal.SIGTERM
    assert f"  python -m tissueseg.pretrain resume={run}\n" in result.out
    assert not (run / "metrics.json").exists()
    assert command("pretrain", f"resume={run}").code == 0
    assert_same_run(run, runs[modality])


def test_a_finished_run_is_not_done_again(command: Command, runs: dict[str, Path]) -> None:
    before = (runs["sp"] / "encoder.safetensors").stat().st_mtime_ns
    with watched(module=PretrainingModule) as taken:
        result = command("pretrain", f"resume={runs['sp']}")
    assert (result.code, taken) == (0, [])
    assert "finished already" in result.out
    assert (runs["sp"] / "encoder.safetensors").stat().st_mtime_ns == before


def test_a_run_goes_on_with_the_command_that_began_it(
    command: Command,
    made: Path,
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TISSUESEG_SETTING")  # which would be a word beside `resume`
    said = error_line(command("train", f"resume={runs['sp']}"))
    assert f"python -m tissueseg.pretrain resume={runs['sp']}" in said
    folder = tmp_path / "run"
    given = ("modality=he", *TINY, f"store.path={made / 's.zarr'}", "epochs=1")
    assert command("train", *given, f"run_dir={folder}").code == 0
    said = error_line(command("pretrain", f"resume={folder}"))
    assert f"python -m tissueseg.train resume={folder}" in said


@both
def test_learning_goes_on_where_a_file_ended(
    command: Command, made: Path, runs: dict[str, Path], tmp_path: Path, modality: str
) -> None:
    weights = runs[modality] / "encoder.safetensors"
    again = ("encoder.random_init=false", f"encoder.weights={weights}", "epochs=1")
    still = ("optim.optimizer.lr=0", "optim.scheduler.eta_min=0")
    given = (*words(made, modality), *again, *still, f"run_dir={tmp_path / 'run'}")
    result = command("pretrain", *given)
    assert result.code == 0, result.err
    assert "the decoder of the pre-training goes on from the file" in result.out
    (row,), before = rows(tmp_path / "run"), rows(runs[modality])[-1]
    assert row["val/loss"] == pytest.approx(before["val/loss"], rel=1e-6)
    first, second = (load_file(f) for f in (weights, tmp_path / "run/encoder.safetensors"))
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_weights_without_our_decoder_begin_it_at_random(
    command: Command, made: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    tensors = load_file(runs["sp"] / "encoder.safetensors")
    encoder = {n: t for n, t in tensors.items() if not n.startswith("decoder.")}
    save_file(encoder, tmp_path / "published.safetensors")
    again = ("encoder.random_init=false", f"encoder.weights={tmp_path / 'published.safetensors'}")
    given = (*words(made, "sp"), *again, "epochs=1", f"run_dir={tmp_path / 'run'}")
    result = command("pretrain", *given)
    assert result.code == 0, result.err
    assert "of the decoder's" in result.out


def test_stores_of_other_markers_scales_and_without_labels_are_learnt_from_together(
    command: Command, made: Path, tmp_path: Path
) -> None:
    given = (f"more_stores=[{made / 'more.zarr'}]", "score_tiles=64", "panels.count=3")
    result = command("pretrain", *words(made, "sp"), *given, f"run_dir={tmp_path / 'run'}")
    assert result.code == 0, result.err
    assert "14 training tiles of 32 px" in result.out  # 2 × 2 of the other's, read twice as wide
    markers = [row["marker"] for row in scores(tmp_path / "run")["markers"]]
    assert markers == ["DAPI", "CD3", "CD8", "Ki67"]
    drawn = sorted(path.name for path in (tmp_path / "run/panels").glob("*.png"))
    assert drawn == ["0_b_0_0.png", "0_b_32_32.png", "1_b_64_64.png"]
    kept = json.loads((tmp_path / "run/environment.json").read_text())
    assert set(kept["digests"]) == {"a", "b", "1/a", "1/b"}


@both
def test_labels_are_not_needed(command: Command, made: Path, tmp_path: Path, modality: str) -> None:
    given = (*words(made, modality), f"store.path={made / 'more.zarr'}", "epochs=1")
    result = command("pretrain", *given, "data.batch_size=2", f"run_dir={tmp_path / 'run'}")
    assert result.code == 0, result.err
    assert math.isfinite(rows(tmp_path / "run")[0]["val/loss"])


@both
def test_tissues_to_test_on_are_never_read(
    command: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str
) -> None:
    read, asked = TissueStore.read, set()

    def noted(self: TissueStore, tissue: str, array: str, *rest: Any) -> Any:
        asked.add((tissue, array))
        return read(self, tissue, array, *rest)

    monkeypatch.setattr(TissueStore, "read", noted)
    store = tmp_path / "s.zarr"
    shutil.copytree(made / "s.zarr", store)
    gone = [path for path in store.rglob("c") if path.is_dir()]
    assert gone
    for image in ("he", "sp"):
        for chunks in (path / image / "c" for path in gone):
            shutil.rmtree(chunks, ignore_errors=True)
    given = (*words(made, modality), f"store.path={store}", "epochs=1")
    result = command("pretrain", *given, f"run_dir={tmp_path / 'run'}")
    assert result.code == 0, result.err
    assert "1 train, 1 val, 1 test left alone" in result.out
    assert asked == {("a", modality), ("b", modality)}
    assert set(SIDES) == {"a", "b", "c"}


def test_what_the_file_holds_can_be_less(
    command: Command, made: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    given = (*words(made, "sp"), "kept={dtype: bfloat16, decoder: false}")
    assert command("pretrain", *given, f"run_dir={tmp_path / 'run'}").code == 0
    small, whole = (load_file(f / "encoder.safetensors") for f in (tmp_path / "run", runs["sp"]))
    assert small.keys() == {n for n in whole if not n.startswith("decoder.")}
    assert all(torch.equal(t, whole[n].bfloat16()) for n, t in small.items())
    again = ("encoder.random_init=false", f"encoder.weights={tmp_path}/run/encoder.safetensors")
    result = command("pretrain", *words(made, "sp"), *again, "epochs=1", f"run_dir={tmp_path}/2")
    assert result.code == 0, result.err
    assert "of the decoder's" in result.out


def test_gradients_of_parts_make_a_step(command: Command, made: Path, tmp_path: Path) -> None:
    found = []
    for options in (("data.batch_size=4",), ("data.batch_size=4", "data.at_a_time=2")):
        folder = tmp_path / str(len(found))
        given = (*words(made, "sp"), *options, "epochs=1", f"run_dir={folder}")
        assert command("pretrain", *given).code == 0
        found.append(rows(folder)[0])
    assert found[1] == pytest.approx(found[0], rel=2e-3)


def test_bf16_is_close(command: Command, made: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    given = (*words(made, "sp"), "trainer.precision=bf16-mixed", f"run_dir={tmp_path / 'run'}")
    assert command("pretrain", *given).code == 0
    wanted = rows(runs["sp"])[-1]["val/loss"]
    assert rows(tmp_path / "run")[-1]["val/loss"] == pytest.approx(wanted, rel=0.02)
