"""Commands with encoders that load weights: trained on, refused, and looked at by the doctor."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published import WIDTH, Published, write_published
from run_scores import of_pixels
from safetensors.torch import load_file, save_file

from tissueseg.modules.checkpoint import load_decoder
from tissueseg.tensorfile import read_tensors

Command = Callable[..., Any]  # name, overrides -> code, out, err

FAST = ("+experiment=baseline", "+debug=fast", "logger=csv")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_published(tmp_path_factory.mktemp("published"))


@pytest.fixture
def virtues(published: Published) -> list[str]:
    return [
        "encoder=virtues",
        f"encoder.weights={published.virtues}",
        f"markers.table={published.table}",
        "modality=sp",
    ]


@pytest.fixture
def cellvit(published: Published) -> list[str]:
    size = ["encoder.spec.channels=[16,16,16,16]", "encoder.levels=[1,2,3,4]", "encoder.heads=2"]
    return ["encoder=cellvit_256", f"encoder.weights={published.cellvit}", "modality=he", *size]


@pytest.fixture
def pair(published: Published) -> list[str]:
    he = ["spec.channels=[16,16,16,16]", "levels=[1,2,3,4]", "heads=2"]
    return [
        "encoder=pair",
        "modality=he_sp",
        f"encoder.he.weights={published.cellvit}",
        *(f"encoder.he.{option}" for option in he),
        f"encoder.sp.weights={published.virtues}",
        f"markers.table={published.table}",
        "decoder.project=32",
    ]


@pytest.mark.parametrize("which", ["virtues", "cellvit", "pair"])
def test_a_run_on_published_weights_is_trained_and_scored_again(
    command: Command, request: pytest.FixtureRequest, tmp_path: Path, which: str
) -> None:
    run = tmp_path / "run"
    options = request.getfixturevalue(which)
    result = command("train", *FAST, *options, f"run_dir={run}", "encoder.halo_px=16")
    assert result.code == 0, result.err
    assert "random" not in result.out
    encoder = json.loads((run / "environment.json").read_text())["encoder"]
    accounts = [part["accounting"] for part in (encoder["parts"] or [encoder])]
    assert [(a["missing"], a["loaded"] > 0) for a in accounts] == [(0, True)] * len(accounts)
    assert command("evaluate", f"run={run}").code == 0
    scores = json.loads((run / "metrics.json").read_text())["val"]
    again = json.loads((run / "evaluation/val/metrics.json").read_text())["val"]
    assert of_pixels(scores) == of_pixels(again)


def test_a_checkpoint_says_how_its_images_are_scaled(
    command: Command, cellvit: list[str], tmp_path: Path
) -> None:
    assert command("train", *FAST, *cellvit, f"run_dir={tmp_path / 'run'}").code == 0
    encoder = json.loads((tmp_path / "run/environment.json").read_text())["encoder"]
    assert encoder["normalisation"]["he_mean"] == [0.6, 0.5, 0.7]
    assert encoder["stride_px"] == 8  # 0.25 µm/px weights on the demo's 0.5


def test_weights_may_move_and_not_change(
    command: Command, virtues: list[str], published: Published, tmp_path: Path
) -> None:
    run, weights, table = (tmp_path / name for name in ("run", "w.safetensors", "t.safetensors"))
    shutil.copy(published.virtues, weights)
    shutil.copy(published.table, table)
    files = [f"encoder.weights={weights}", f"markers.table={table}"]
    assert command("train", *FAST, *virtues, *files, f"run_dir={run}").code == 0
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("halo_px: 0", "halo_px: 16"))
    result = command("evaluate", f"run={run}")
    assert (result.code, "halo_px: 0 ≠ 16" in result.err) == (2, True)
    config.write_text(config.read_text().replace("halo_px: 16", "halo_px: 0"))
    moved = [f"encoder.weights={published.virtues}", f"markers.table={published.table}"]
    weights.unlink()
    table.unlink()
    result = command("evaluate", f"run={run}")
    assert (result.code, "no weights at" in result.err) == (2, True)
    assert command("evaluate", f"run={run}", *moved).code == 0
    for path, key in ((weights, "encoder.weights"), (table, "markers.table")):
        changed = load_file(published.virtues if path == weights else published.table)
        next(iter(changed.values())).view(-1)[0] += 1
        save_file(changed, path)
        result = command("evaluate", f"run={run}", *moved, f"{key}={path}")
        assert (result.code, "sha256" in result.err) == (2, True)
    result = command("evaluate", f"run={run}", *moved, f"encoder.he.weights={weights}")
    assert (result.code, "this run has none" in result.err) == (2, True)


def test_a_published_network_is_scored_whole_as_it_is(
    command: Command, cellvit: list[str], published: Published, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    whole = ["decoder=cellvit", f"decoder.weights={published.cellvit}", f"decoder.width={WIDTH}"]
    scale = ["encoder.mpp=0.5", "loss=ce_dice_ft", "epochs=0"]  # tokens every 16 px, as published
    result = command("train", *FAST, *cellvit, *whole, *scale, f"run_dir={run}")
    assert result.code == 0, result.err
    assert "as loaded" in result.out
    assert "chose the epoch" not in result.out
    assert "decoder: " in result.out
    kept = load_decoder(run / "decoder.ckpt")
    given = read_tensors(str(published.cellvit)).tensors
    assert kept.epoch == -1
    assert torch.equal(kept.state["decoder1.0.block.0.weight"], given["decoder1.0.block.0.weight"])
    scores = json.loads((run / "metrics.json").read_text())["val"]
    published.cellvit.rename(tmp_path / "moved.pth")
    try:
        moved = f"encoder.weights={tmp_path / 'moved.pth'}"
        assert command("evaluate", f"run={run}", moved).code == 0
    finally:
        (tmp_path / "moved.pth").rename(published.cellvit)
    again = json.loads((run / "evaluation/val/metrics.json").read_text())["val"]
    assert of_pixels(scores) == of_pixels(again)


def test_channels_that_are_left_out_are_named(
    command: Command, virtues: list[str], published: Published, tmp_path: Path
) -> None:
    vectors = load_file(published.table)
    save_file({k: vectors[k] for k in ("P07766", "P46013")}, tmp_path / "two.safetensors")
    drop = [f"markers.table={tmp_path / 'two.safetensors'}", "markers.unmatched=drop"]
    result = command("train", *FAST, *virtues, *drop, f"run_dir={tmp_path / 'run'}")
    assert result.code == 0
    assert "sees 2 of 17 SP channels" in result.out
    assert "left out of the encoder: CD31, CD45, CD68" in result.out
    said = json.loads((tmp_path / "run/environment.json").read_text())["weights"]
    assert any(line.startswith("left out of the encoder: CD31") for line in said)
    assert "left out of the encoder: CD31" in command("doctor", *FAST, *virtues, *drop).out


def test_a_pair_says_which_part_has_learnt_nothing(
    command: Command, pair: list[str], tmp_path: Path
) -> None:
    random = ["encoder.he.weights=null", "encoder.he.random_init=true"]
    result = command("train", *FAST, *pair, *random, f"run_dir={tmp_path / 'run'}")
    assert "encoder=cellvit_256 has random weights" in result.out
    assert "encoder=virtues has random weights" not in result.out
    assert "cellvit_256_random_init+virtues" in result.out


REFUSED = {
    "H&E into VirTues": (["modality=he"], "was trained on ['sp'], but modality=he"),
    "both into VirTues": (["modality=he_sp"], "encoder=pair for one encoder each"),
    "no weights": (["encoder.weights=null"], "encoder.random_init=true"),
    "weights and random": (["encoder.random_init=true"], "keep one of them"),
    "no such file": (["encoder.weights=none.pth"], "no weights at none.pth"),
    "no table": (["markers.table=null"], "markers.table=<file"),
    "no such table": (["markers.table=none"], "no table of protein vectors at none"),
    "unknown option": (["markers.unmatched=ignore"], "choose from refuse, drop"),
    "scale": (["data.tile_px=120"], "16 px patch of encoder=virtues. Choose 112 or 128"),
    "halo": (["encoder.halo_px=10"], "encoder.halo_px=10 is not a multiple"),
    "chunk": (["encoder.chunk=0"], "encoder.chunk=0, wanted a whole number of at least 1 or null"),
    "a word for a flag": (["encoder.random_init=no"], "random_init=no, wanted true or false"),
    "a word for a scale": (["encoder.mpp=abc"], "encoder.mpp=abc, wanted µm per pixel or null"),
    "a flag for a number": (["encoder.heads=true"], "encoder.heads=True, wanted a whole number"),
    "half a block": (["encoder.levels=[1.5,2,3,4]"], "wanted whole numbers such as"),
    "one level": (["encoder.levels=3"], "wanted whole numbers such as"),
    "a number for weights": (["encoder.weights=3"], "encoder.weights=3, wanted a file"),
    "a huge halo": (["encoder.halo_px=10000"], "wanted pixels, 0 to 1024"),
    "no spec": (["encoder.spec=null"], "wanted the options of a spec"),
    "no marker options": (["markers=null"], "wanted table, unmatched and duplicates"),
    "no table options": (["encoder.markers=null"], "wanted the options of a marker table"),
    "blur": (["encoder.spec.normalisation.sp_blur_sigma_px=x"], "0 … 100 (pixels, 0 for none)"),
    "deviation": (["+encoder.spec.normalisation.he_std=[0,0,0]"], "wanted three numbers for RGB"),
    "no normalisation": (["encoder.spec.normalisation=null"], "has normalisation=None"),
    "precision": (["trainer.precision=bf16-true"], "32-true, bf16-mixed, 16-mixed"),
    "decoder weights": (["decoder.weights=3"], "weights=3, wanted a file"),
    "CUDA": (["trainer=gpu"], "choose trainer=cpu"),
    "nothing to score": (["epochs=0"], "give decoder.weights"),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_one_line(
    command: Command,
    virtues: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    said: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    result = command("train", *FAST, *virtues, *change)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_refused(
    command: Command, virtues: list[str], cellvit: list[str], published: Published
) -> None:
    result = command("train", *FAST, *virtues, f"encoder.weights={published.cellvit}")
    assert (result.code, "layout vit, but encoder=virtues wants" in result.err) == (2, True)
    result = command("train", *FAST, *cellvit, f"encoder.weights={published.virtues}")
    assert (result.code, "layout virtues, but" in result.err) == (2, True)
    result = command("train", *FAST, "encoder=cellvit_256", "modality=he", cellvit[1])
    assert (result.code, "choose the encoder that fits" in result.err) == (2, True)


def test_the_doctor_on_a_healthy_setup(command: Command, virtues: list[str]) -> None:
    result = command("doctor", *FAST, *virtues)
    assert result.code == 0
    for said in (
        "0 missing",
        "CD3e -> P07766 (stated)",
        "sha256",
        "one tile",
        "Nothing would stop",
    ):
        assert said in result.out
    assert "FAIL" not in result.out


def test_the_doctor_names_the_cause_and_not_its_echoes(
    command: Command, virtues: list[str], tmp_path: Path
) -> None:
    (tmp_path / "page.safetensors").write_text("<!doctype html>")
    change = [f"encoder.weights={tmp_path / 'page.safetensors'}"]
    result = command("doctor", *FAST, *virtues, *change)
    assert (result.code, "web page" in result.out) == (1, True)
    assert result.out.count("FAIL") == 1
    assert "one tile" not in result.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("split.val=0", "must be > 0"),
        ("run_dir=file/run", "no folder that can be written"),
        ("markers=null", "wanted table"),
        ("trainer=gpu", "choose trainer=cpu"),
    ],
)
def test_what_stops_train_is_found_by_the_doctor(
    command: Command,
    virtues: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    said: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = command("doctor", *FAST, *virtues, change)
    assert (result.code, said in result.out) == (1, True)
    assert said in command("train", *FAST, *virtues, change).err


def test_the_doctor_finds_mismatches_of_store_and_spec(
    command: Command, virtues: list[str]
) -> None:
    result = command("doctor", *FAST, *virtues, "store.path=missing.zarr", "modality=he")
    assert result.code == 1
    assert "was trained on ['sp']" in result.out
    assert "missing.zarr" in result.out
    assert result.out.count("FAIL") == 2
