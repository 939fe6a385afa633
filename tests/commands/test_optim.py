"""Schedules and moving averages from the command line: used as said, or refused before anything opens."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from run_scores import of_pixels

Command = Callable[..., Any]  # name, overrides -> code, out, err
FAST = ("+debug=fast", "logger=csv")


def test_rates_of_a_run_are_in_its_history(command: Command, tmp_path: Path) -> None:
    words = (
        "optim=adamw_cosine",
        "optim.scheduler.warmup=1",
        "epochs=4",
        "optim.optimizer.lr=0.01",
    )
    folder = tmp_path / "run"
    result = command("train", *FAST, *words, "optim.scheduler.eta_min=0", f"run_dir={folder}")
    assert result.code == 0, result.err
    with (folder / "metrics.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    thirds = [(1 + math.cos(math.pi * n / 3)) / 2 for n in range(3)]  # of a turn, after one epoch
    assert rates == pytest.approx([0.005, *(0.01 * share for share in thirds)])


def test_an_averaged_run_is_scored_again_with_the_same_numbers(
    command: Command, tmp_path: Path, finished_run: Path
) -> None:
    folder = tmp_path / "run"
    words = ("+experiment=boundary_att", *FAST, "ema=0.9", f"run_dir={folder}")
    assert command("train", *words).code == 0
    before = json.loads((folder / "metrics.json").read_text())
    assert command("evaluate", f"run={folder}", "side=test").code == 0
    after = json.loads((folder / "evaluation/test/metrics.json").read_text())
    assert of_pixels(before["test"]) == of_pixels(after["test"])
    plain, averaged = (
        torch.load(f / "decoder.ckpt", weights_only=True)["state"] for f in (finished_run, folder)
    )
    assert plain.keys() == averaged.keys()
    assert any(not torch.equal(plain[n], averaged[n]) for n in plain)


def test_runs_from_before_are_scored_still(
    command: Command, tmp_path: Path, finished_run: Path
) -> None:
    """Their schedule was torch's own, their checkpoint and configuration said nothing of the rest."""
    folder = tmp_path / "old"
    folder.mkdir()
    config = OmegaConf.load(finished_run / "config.yaml")
    for key in ("ema", "finetune"):
        del config[key]
    config.optim.scheduler = {
        "_target_": "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
        "_partial_": True,
        "T_0": 2,
        "eta_min": 1e-6,
    }
    OmegaConf.save(config, folder / "config.yaml")
    content = torch.load(finished_run / "decoder.ckpt", weights_only=True)
    old = {k: v for k, v in content.items() if k not in ("finetune", "encoder_state")}
    torch.save(old | {"format": 2}, folder / "decoder.ckpt")
    result = command("evaluate", f"run={folder}", "side=val", f"out={tmp_path / 'out'}")
    assert result.code == 0, result.err
    before = json.loads((finished_run / "metrics.json").read_text())
    after = json.loads((tmp_path / "out/metrics.json").read_text())
    assert of_pixels(before["val"]) == of_pixels(after["val"])


REFUSED = {
    "ema=1": "ema=1, wanted a finite number > 0 and < 1 (a decay such as 0.999, or null)",
    "ema=slow": "ema=slow",
    "optim.scheduler.warmup=-1": "warmup=-1, wanted a whole number",
    "optim.scheduler.period=0": "period=0, wanted a whole number",
    "optim.scheduler.eta_min=-1": "eta_min=-1, wanted a finite number ≥ 0 (a learning rate)",
    "optim.scheduler.T_0=4": "T_0",
    "optim.optimizer.lr=-1": "optim.optimizer.lr=-1, wanted a finite number ≥ 0",
    "optim=adam": "adamw_cosine",
}


@pytest.mark.parametrize(("override", "said"), REFUSED.items())
def test_mistakes_are_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", *FAST, "store.path=none.zarr", override)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err
    assert "none.zarr" not in result.err  # nothing was opened
    assert not list(tmp_path.iterdir())


def test_a_warm_up_as_long_as_the_run_is_refused(command: Command) -> None:
    result = command("train", *FAST, "optim=adamw_cosine", "epochs=3", "optim.scheduler.warmup=3")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "leaves nothing of optim.scheduler.period=3" in result.err
