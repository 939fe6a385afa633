"""Fine-tuned encoders from the command line: trained, named, scored again exactly, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from feature_runs import WORDS
from run_scores import of_pixels
from stores import compose

from tissueseg import assembly, preflight
from tissueseg.features import open_features
from tissueseg.modules.checkpoint import load_decoder
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err
FAST = ("+debug=fast", "logger=csv")
FAST_LEARNING = "finetune.lr_factor=1"


@pytest.mark.parametrize(
    ("option", "label"), [("finetune.blocks=2", "blocks2"), ("finetune.lora=4", "lora4")]
)
def test_a_tuned_run_is_named_so_and_scored_again_with_the_same_numbers(
    command: Command, tmp_path: Path, option: str, label: str
) -> None:
    folder = tmp_path / "run"
    result = command("train", *FAST, option, FAST_LEARNING, "ema=0.5", f"run_dir={folder}")
    assert result.code == 0, result.err
    name = f"baseline-he_sp-tiny_random_init+{label}"
    assert name in result.out
    assert f"features: encoded online, since {option} changes the encoder" in result.out
    assert f"{option}: " in result.out
    assert "has random weights" in result.out
    before = json.loads((folder / "metrics.json").read_text())
    assert (before["run"], before["encoder"]) == (name, f"tiny_random_init+{label}")
    again = command("evaluate", f"run={folder}", "side=val")
    assert again.code == 0, again.err
    after = json.loads((folder / "evaluation/val/metrics.json").read_text())
    assert of_pixels(before["val"]) == of_pixels(after["val"])
    assert after["run"] == name


def test_what_learnt_makes_a_difference_and_is_all_that_is_kept(
    command: Command, here: Path
) -> None:
    words = (*WORDS, "epochs=1", "finetune.blocks=1", FAST_LEARNING, "run_dir=run")
    assert command("train", *words).code == 0
    kept = load_decoder(here / "run/decoder.ckpt")
    assert kept.finetune["blocks"] == 1
    assert {name.split(".")[1] for name in kept.encoder_state} == {"3"}
    module = built(*words)
    published = dict(module.encoder.named_parameters())
    assert any(not torch.equal(published[n], t) for n, t in kept.encoder_state.items())
    assert kept.encoder["sha256"] == module.encoder.digest()  # that of the published weights
    kept.restore(module.decoder, module.encoder)
    assert module.encoder.digest() != kept.encoder["sha256"]


def built(*words: str) -> Any:
    config = compose(*words)
    preflight.check(config)
    store = TissueStore(Path("cohort.zarr"))
    split = assembly.open_split(config, store)
    features = open_features(config, store, split)
    data = assembly.open_data(config, store, split, features)
    preflight.settle_class_weights(config, data)
    return assembly.build_module(config, features, data)


def test_the_encoder_learns_at_a_rate_of_its_own(here: Path) -> None:
    words = (*WORDS, "finetune.lora=2", "finetune.lr_factor=0.5", "optim.optimizer.lr=0.01")
    module = built(*words)
    decoder, encoder = module.configure_optimizers()["optimizer"].param_groups
    assert (decoder["lr"], encoder["lr"]) == (0.01, 0.005)
    assert (decoder["initial_lr"], encoder["initial_lr"]) == (0.01, 0.005)
    assert {id(p) for p in decoder["params"]} == {id(p) for p in module.decoder.parameters()}
    learning = {id(p) for p in module.encoder.parameters() if p.requires_grad}
    assert {id(p) for p in encoder["params"]} == learning


def test_stored_features_do_not_follow_an_encoder_that_learns(command: Command, here: Path) -> None:
    assert command("embed", *WORDS).code == 0
    tuned = (*WORDS, "epochs=1", "finetune.blocks=1")
    result = command("train", *tuned, "features=stored")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "features=stored, but finetune.blocks=1 changes the encoder" in result.err
    result = command("train", *tuned, "run_dir=run")
    assert result.code == 0, result.err
    assert "encoded online, since finetune.blocks=1 changes the encoder" in result.out
    assert "To encode them once for all" not in result.out
    result = command("evaluate", "run=run", "features=stored")
    assert (result.code, "finetune.blocks=1" in result.err) == (2, True)


REFUSED = {
    "finetune.blocks=-1": "finetune.blocks=-1, wanted a whole number of at least 0",
    "finetune.blocks=5": "tiny has 4 blocks: choose at most 4",
    "finetune.lora=half": "lora=half, wanted a whole number of at least 1 (a rank, or null for none)",
    "finetune.lr_factor=0": "finetune.lr_factor=0, wanted a finite number > 0",
    "finetune={blocks:1,lora:2}": "exclude each other",
    "finetune=null": "finetune=None, wanted blocks, lora",
    "+finetune.layers=2": "finetune: ",
}


@pytest.mark.parametrize(("override", "said"), REFUSED.items())
def test_mistakes_are_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", *FAST, override)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err
    assert not list(tmp_path.iterdir())
