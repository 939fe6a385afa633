"""Commands with encoders that load weights: trained on, refused, and looked at by the doctor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published import Published, write_published

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
    assert again == scores


def test_a_checkpoint_says_how_its_images_are_scaled(
    command: Command, cellvit: list[str], tmp_path: Path
) -> None:
    assert command("train", *FAST, *cellvit, f"run_dir={tmp_path / 'run'}").code == 0
    encoder = json.loads((tmp_path / "run/environment.json").read_text())["encoder"]
    assert encoder["normalisation"]["he_mean"] == [0.6, 0.5, 0.7]
    assert encoder["stride_px"] == 8  # 0.25 µm/px weights on the demo's 0.5


def test_changed_weights_are_no_longer_the_run_s(
    command: Command, virtues: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert command("train", *FAST, *virtues, f"run_dir={run}").code == 0
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("halo_px: 0", "halo_px: 16"))
    result = command("evaluate", f"run={run}")
    assert (result.code, "halo_px: 0 ≠ 16" in result.err) == (2, True)


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
    "chunk": (["encoder.chunk=0"], "encoder.chunk=0"),
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


def test_the_doctor_names_every_cause_once(
    command: Command, virtues: list[str], tmp_path: Path
) -> None:
    (tmp_path / "page.safetensors").write_text("<!doctype html>")
    change = [f"encoder.weights={tmp_path / 'page.safetensors'}", "split.val=0"]
    result = command("doctor", *FAST, *virtues, *change)
    assert result.code == 1
    assert "2 findings that would stop train" not in result.out  # the split stops what follows
    assert "must be > 0" in result.out
    result = command("doctor", *FAST, *virtues, *change[:1])
    assert (result.code, "web page" in result.out) == (1, True)
    assert result.out.count("FAIL") == 1


def test_the_doctor_finds_mismatches_of_store_and_spec(
    command: Command, virtues: list[str]
) -> None:
    result = command("doctor", *FAST, *virtues, "store.path=missing.zarr", "modality=he")
    assert result.code == 1
    assert "was trained on ['sp']" in result.out
    assert "missing.zarr" in result.out
    assert result.out.count("FAIL") == 2
