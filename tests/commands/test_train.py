"""`python -m tissueseg.train`: what a run leaves, that it repeats, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from wandb_log import read_offline

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.planes import Tissue
from tissueseg.store.writer import TissueWriter

Command = Callable[..., Any]  # name, overrides -> code, out, err
FAST = ("+debug=fast", "logger=csv")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_later_commands_read(finished_run: Path) -> None:
    left = {p.relative_to(finished_run).as_posix() for p in finished_run.rglob("*") if p.is_file()}
    assert left >= {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "history.npz",
        "metrics.json",
        "confusion.npy",
        "confusion_test.npy",
        "decoder.ckpt",
        "cost.json",
        "panels/demo_003.png",
        "panels/demo_004.png",  # of the test side
    }
    assert not [name for name in left if "partial" in name]
    config = OmegaConf.load(finished_run / "config.yaml")
    assert (config.name, config.modality) == ("boundary_att", "he_sp")
    assert len(config.class_weights) == 10  # numbers, no longer a word
    environment = json.loads((finished_run / "environment.json").read_text())
    assert environment["encoder"]["random_init"] is True
    assert environment["split"]["train"] == ["demo_000", "demo_001", "demo_002"]
    assert torch.__version__.startswith(environment["packages"]["torch"])  # +cu128 is not in all
    tissues = [name for side in environment["split"].values() for name in side]
    assert list(environment["digests"]) == list(environment["patients"]) == tissues
    assert len(environment["fingerprint"]) == 64


def test_a_run_says_what_it_took(finished_run: Path) -> None:
    cost = json.loads((finished_run / "cost.json").read_text())
    assert cost["steps"] > 0
    assert 0 < cost["step_s"] < cost["fit_s"]
    assert cost["parameters"] == cost["trained_parameters"] > 0
    assert (cost["peak_of"], cost["devices"], cost["gpu_hours"]) == ("process", 1, 0.0)
    assert cost["peak_bytes"] > 0


@pytest.mark.parametrize("side", ["val", "test"])
def test_each_side_has_the_study_s_score_and_its_calibration(finished_run: Path, side: str) -> None:
    metrics = json.loads((finished_run / "metrics.json").read_text())
    batch_size = OmegaConf.load(finished_run / "config.yaml").data.batch_size
    study, calibration = metrics[side]["study"], metrics[side]["calibration"]
    assert list(study) == [f"dice_study_batch{batch_size}"]
    counts = np.load(finished_run / {"val": "confusion.npy", "test": "confusion_test.npy"}[side])
    assert sum(calibration["pixels"]) == counts.sum()
    flat = metrics["metrics"]
    assert flat[f"{side}/calibration/ece"] == calibration["ece"]
    assert flat[f"{side}/calibration/brier"] == calibration["brier"]
    assert flat[f"{side}/dice_study_batch{batch_size}"] == study[f"dice_study_batch{batch_size}"]
    pooled = metrics[side]["pooled"]
    assert flat[f"{side}/dice/macro_foreground"] == pooled["macro_dice_foreground"]


def test_scores_agree_with_the_counts_they_come_from(finished_run: Path) -> None:
    metrics = json.loads((finished_run / "metrics.json").read_text())
    confusion = np.load(finished_run / "confusion.npy").sum(0)
    assert confusion.sum() == 128 * 128  # every pixel of the one validation tissue, once
    background = 2 * confusion[0, 0] / (confusion[0].sum() + confusion[:, 0].sum())
    assert metrics["val"]["pooled"]["dice"][0] == pytest.approx(background)
    assert metrics["run"] == "boundary_att-he_sp-tiny_random_init"
    best = max(rows(finished_run), key=lambda row: float(row["val/dice/macro_foreground"] or "nan"))
    assert int(best["epoch"]) == metrics["epoch"]
    kept = float(best["val/dice/macro_foreground"])
    assert metrics["val"]["pooled"]["macro_dice_foreground"] == pytest.approx(kept)


def test_every_loss_term_is_in_the_history(finished_run: Path) -> None:
    row = rows(finished_run)[-1]
    for term in ("ce", "dice", "focal_tversky", "boundary_att"):
        assert float(row[f"train/loss/{term}"]) > 0
        assert float(row[f"val/loss/{term}"]) > 0
    history = np.load(finished_run / "history.npz")
    assert history["train/loss"].tolist() == [float(r["train/loss"]) for r in rows(finished_run)]


def test_the_checkpoint_holds_the_decoder_alone(finished_run: Path) -> None:
    content = torch.load(finished_run / "decoder.ckpt", weights_only=True)
    assert content["encoder"]["name"] == "tiny"
    assert not [name for name in content["state"] if "encoder" in name]
    with Image.open(finished_run / "panels/demo_003.png") as panel:
        assert panel.size[0] > 3 * 128


def test_the_table_says_what_was_averaged(command: Command, tmp_path: Path) -> None:
    result = command("train", *FAST, "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}")
    assert result.code == 0
    for said in ("tumor", "macro foreground", "guess", "random weights", "decoder.ckpt"):
        assert said in result.out
    assert "Pooled over all pixels" in result.out
    assert result.out.rstrip().rsplit("\n", 1)[1].startswith("  python -m tissueseg.evaluate run=")


def test_same_seed_same_numbers(command: Command, finished_run: Path, tmp_path: Path) -> None:
    experiment = ("+experiment=boundary_att", *FAST)
    assert command("train", *experiment, f"run_dir={tmp_path / 'again'}").code == 0
    assert command("train", *experiment, "seed=1", f"run_dir={tmp_path / 'other'}").code == 0
    text = (finished_run / "metrics.csv").read_text()
    assert (tmp_path / "again/metrics.csv").read_text() == text
    assert (tmp_path / "other/metrics.csv").read_text() != text


@pytest.mark.parametrize("modality", ["he", "sp"])
def test_one_modality_alone(command: Command, tmp_path: Path, modality: str) -> None:
    overrides = (f"modality={modality}", "trainer.max_epochs=1", f"run_dir={tmp_path / 'run'}")
    assert command("train", *FAST, *overrides).code == 0
    content = torch.load(tmp_path / "run/decoder.ckpt", weights_only=True)
    assert content["data"]["image_channels"] == {"he": 3, "sp": 17}[modality]


def test_early_stopping_stops(command: Command, tmp_path: Path) -> None:
    overrides = ("epochs=20", "patience=1", "optim.optimizer.lr=0", f"run_dir={tmp_path / 'run'}")
    assert command("train", *FAST, *overrides).code == 0
    assert len(rows(tmp_path / "run")) < 20


REFUSED = {
    "+experiment=bondary_att": "boundary_att",
    "encoder=null": "Choose one of the group's files",
    "encoder=tinny": "did you mean tiny?",
    "optim.optimiser.lr=1": "optim.optimiser",
    "modality=ihc": "he, he_sp, sp",
    "store.path=missing.zarr": "missing.zarr",
    "store.path=.": "is not a tissue store",
    "data.tile_px=60": "Choose 56 or 64",
    "data.tile_px=big": "whole number",
    "split.val=0": "must be > 0",
    "split.train=100": "no tissue on side 'val'",
    "class_weights=[1,2]": "per class (10)",
    "class_weights=all": "inverse_frequency",
    "monitor=val/loss": "val/dice/macro_foreground",
    "decoder.skips=some": "image_only",
    "loss=none": "at least one",
    "loss.uncertainty=maybe": "loss.uncertainty",
    "encoder._target_=os.system": "os.system",
    "encoder.spec.normalisation.sp_quantile=0.5": "0.99",
    "class_weights=[1,-5,1,1,1,1,1,1,1,1]": "≥ 0",
    "class_weights=5": "per class",
    "monitor=val/dice/b_cell": "choose no epoch",
    "decoder.width=-3": "decoder.width",
    "decoder.dropout=2": "decoder.dropout=2, wanted",
    "decoder.heads=null": "decoder.heads",
    "decoder.heads.classes.depth=-1": "depth",
    "boundary.width_px=1.5": "boundary.width_px",
    "data.pin_memory=maybe": "true or false",
    "split.train=some": "split: ",
    "encoder.spec.stride_px=0": "stride_px",
    "+encoder.spec.mpp=0.25": "4 px",
    "seed=99999999999": "seed",
    "trainer.limit_val_batches=0": "> 0 (batches",
    "trainer.accelerator=abacus": "abacus",
    "optim.optimizer.lr=fast": "optim.optimizer.lr=fast, wanted",
    "run_dir=file/run": "no folder that can be written",
}


@pytest.mark.parametrize(("override", "said"), REFUSED.items())
def test_mistakes_are_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = command("train", *FAST, override)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_modality_the_store_lacks(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "he.zarr"
    labels = np.zeros((64, 64), np.int32)
    labels[8:20, 8:20] = 1
    table = (TissueClass(0, "background", "#000000"), TissueClass(1, "nucleus", "#ff0000"))
    with TissueWriter(path, mpp=0.5, classes=table, images=["he"]) as out:
        for name in "abc":
            out.add(name, Tissue(labels, labels, np.zeros((3, 64, 64), np.uint8)))
    result = command("train", *FAST, f"store.path={path}", "modality=sp")
    assert result.code == 2
    assert "Choose modality=he" in result.err


def test_a_silent_channel_is_said_once(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((64, 64), np.int32)
    labels[8:20, 8:20] = 1
    table = (TissueClass(0, "background", "#000000"), TissueClass(1, "nucleus", "#ff0000"))
    panel = (Channel("DNA", "P68431", nuclear=True), Channel("CD3", "P07766"))
    with TissueWriter(
        tmp_path / "sp.zarr", mpp=0.5, classes=table, panel=panel, images=["sp"]
    ) as out:
        for name in "abc":
            sp = rng.poisson(50, (2, 64, 64)).astype(np.uint16)
            sp[1] *= name != "b"
            out.add(name, Tissue(labels, labels, sp=sp))
    split = "split={train: 1, val: 1, test: 1}"
    where = (f"store.path={tmp_path / 'sp.zarr'}", f"run_dir={tmp_path / 'run'}")
    overrides = (*where, "modality=sp", split)
    result = command("train", *FAST, *overrides)
    assert result.code == 0
    assert result.out.count("CD3 in 1 (b") == 1


def test_the_setting_comes_from_the_environment(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TISSUESEG_SETTING", "orion")
    monkeypatch.setenv("TISSUESEG_STORE", str(tmp_path / "none.zarr"))
    result = command("train", "trainer=cpu")
    assert (result.code, "none.zarr" in result.err) == (2, True)


def test_a_full_protocol_asks_for_its_store(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TISSUESEG_STORE", raising=False)
    result = command("train", "setting=orion")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "store.path=" in result.err


def test_a_wrong_wandb_mode_leaves_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "bogus")
    result = command("train", "+debug=fast")
    assert (result.code, list(tmp_path.iterdir())) == (2, [])
    assert "WANDB_MODE=bogus" in result.err


@pytest.mark.slow
def test_a_sweep_makes_a_run_each(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TISSUESEG_SETTING", "untrained")
    overrides = ("+debug=fast", "-m", "logger=csv", "trainer.max_epochs=1", "seed=0,1")
    assert command("train", *overrides).code == 0
    folders = list((tmp_path / "runs/baseline-he_sp-tiny_random_init").iterdir())
    assert sorted(OmegaConf.load(f / "config.yaml").seed for f in folders) == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_leaves_a_decoder(command: Command, tmp_path: Path, demo_cache: Path) -> None:
    folder = tmp_path / "run"
    overrides = (*FAST, "epochs=1000", "patience=1000", f"run_dir={folder}")
    process = subprocess.Popen(
        [sys.executable, "-m", "tissueseg.train", *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    with process:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert "Traceback" not in "".join(seen)
    assert f"evaluate run={folder}" in "".join(seen)
    assert len(rows(folder)) >= 2
    assert json.loads((folder / "cost.json").read_text())["steps"] >= 2 * 2
    assert command("evaluate", f"run={folder}").code == 0


@pytest.mark.slow
def test_wandb_works_without_network_or_account(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "run"
    overrides = ("+debug=fast", "trainer.max_epochs=1", f"run_dir={folder}")
    assert command("train", *overrides).code == 0
    assert "val/dice/macro_foreground" in read_offline(folder).keys
    assert list(folder.glob("wandb/offline-run-*/files/media/images/kept/panels*.png"))
