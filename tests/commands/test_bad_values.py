"""Values that no loss, optimizer or trainer can take: one line each, before anything is opened.

Most rows ask the checks that come first, on a configuration composed once; a few run the command.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from stores import compose

from tissueseg import preflight
from tissueseg.building import build
from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.numbers import shown
from tissueseg.trainer import build_trainer

Command = Callable[..., Any]  # name, overrides -> code, out, err
FAST = ("+debug=fast", "logger=csv", "store.path=none.zarr")

DICE = "loss.terms.dice.loss"
TVERSKY = "loss.terms.focal_tversky.loss"
BOUNDARY = "loss.terms.boundary.loss"
SCALES = "loss.terms.boundary_att.loss"
PARTS = f"{SCALES}: DeepSupervision"
NAN = math.nan
NUMBERS = {
    f"{DICE}.epsilon": (f"{DICE}: Dice.epsilon", [True, "abc", NAN, -1, 0, None]),
    f"{TVERSKY}.alpha": (f"{TVERSKY}: FocalTversky.alpha", [True, "abc", NAN, -1, None]),
    f"{TVERSKY}.beta": (f"{TVERSKY}: FocalTversky.beta", [True, "abc", NAN, -1, None]),
    f"{TVERSKY}.gamma": (f"{TVERSKY}: FocalTversky.gamma", [True, "abc", NAN, 0, None]),
    f"{TVERSKY}.epsilon": (f"{TVERSKY}: FocalTversky.epsilon", [True, "abc", NAN, 0, None]),
    f"{BOUNDARY}.pos_weight": (
        f"{BOUNDARY}: BinaryCrossEntropy.pos_weight",
        [True, "abc", NAN, 0],
    ),
    f"{SCALES}.losses.dice.loss.epsilon": (f"{SCALES}: Dice.epsilon", ["abc", True]),
    f"{SCALES}.weights.boundary": (f"{PARTS}.weights.boundary", [True, "abc", NAN, -1, None]),
    "loss.terms.ce.weight": ("loss.terms.ce.weight", [True, "abc", NAN, -1, None]),
    "optim.optimizer.lr": ("optim.optimizer.lr", [True, "abc", NAN, -1, None]),
    "optim.optimizer.weight_decay": ("optim.optimizer.weight_decay", [True, "abc", NAN, -1, None]),
    "trainer.gradient_clip_val": ("trainer.gradient_clip_val", [True, "abc", NAN, -1]),
    "trainer.limit_val_batches": ("trainer.limit_val_batches", [True, "abc", NAN, 0, None]),
    "finetune.lora": ("finetune.lora", [True, "abc", 0, 1.5]),
}
ROWS = [
    (key, value, f"{said}={shown(value)}, wanted a ")
    for key, (said, bad) in NUMBERS.items()
    for value in bad
]
TERMS = "wanted a name, weight and loss a term."
BUILT = "wanted a _target_ and its options."
FORMS = [
    ("loss.terms", None, f"loss.terms=null, {TERMS}"),
    ("loss.terms", 3, f"loss.terms=3, {TERMS}"),
    ("loss.terms", {}, "loss.terms has no term of positive weight"),
    ("loss.terms.ce", 3, "loss.terms.ce=3, wanted weight and loss, or null."),
    ("loss.terms.ce.factor", 1, "loss.terms.ce holds weight, loss, factor; wanted weight and loss"),
    ("loss.terms.ce.loss", None, f"loss.terms.ce.loss=null, {BUILT}"),
    ("loss.terms.ce.loss", 3, f"loss.terms.ce.loss=3, {BUILT}"),
    (f"{DICE}.smooth", 1, f"{DICE} cannot be built: "),
    (f"{SCALES}.weights", None, f"{PARTS}.weights=null, wanted a name and a weight each."),
    (f"{SCALES}.losses", None, f"{PARTS}.losses=null, wanted a name, factor and loss a term."),
    (f"{SCALES}.losses", 3, f"{PARTS}.losses=3, wanted a name, factor and loss a term."),
    (f"{SCALES}.losses.bce", 3, f"{PARTS}.losses.bce=3, wanted factor and loss, or null."),
    ("optim.scheduler", None, f"optim.scheduler=null, {BUILT}"),
    ("optim.optimizer", None, f"optim.optimizer=null, {BUILT}"),
    ("optim.optimizer", "adam", f"optim.optimizer=adam, {BUILT}"),
]


@cache
def composed(decoder: str) -> DictConfig:
    return compose(*FAST, f"decoder={decoder}")


def with_value(key: str, value: object) -> DictConfig:
    """A configuration that has the option, and the value in it."""
    decoders = {SCALES: "boundary_att", BOUNDARY: "boundary"}
    decoder = next((d for k, d in decoders.items() if key.startswith(k)), "baseline")
    config = deepcopy(composed(decoder))
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    return config


def check(config: DictConfig) -> None:
    """What training asks before it opens anything."""
    preflight.check(config)
    preflight.check_training(config)


@pytest.mark.parametrize(("key", "value", "said"), [*ROWS, *FORMS])
def test_what_cannot_be_used_is_said_in_one_line(key: str, value: object, said: str) -> None:
    config = with_value(key, value)
    with pytest.raises(ConfigError) as refused:
        check(config)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [f"+{DICE}.epsilon=abc", "loss.terms=null", "optim.optimizer.lr=true", f"+{DICE}.smooth=1"],
)
def test_the_command_says_it_before_anything_is_opened(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", *FAST, words)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert words.strip("+").split("=")[0].rpartition(".")[0] in result.err
    assert "none.zarr" not in result.err
    assert not list(tmp_path.iterdir())


def test_null_leaves_a_term_or_clipping_out() -> None:
    config = with_value("loss.terms.ce", None)
    check(config)
    assert list(build(config.loss).losses) == ["dice", "focal_tversky"]
    config = with_value("trainer.gradient_clip_val", None)
    check(config)
    assert build_trainer(config, Console(file=StringIO()), []).gradient_clip_val is None


def test_a_head_whose_only_term_is_null_is_reported() -> None:
    config = deepcopy(composed("boundary"))
    config.loss.terms.boundary = None
    with pytest.raises(SpecMismatchError, match="boundary"):
        preflight.check(config)


def test_a_rank_that_is_not_low_is_refused_with_the_width(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", *FAST[:2], "finetune.lora=5000")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "finetune.lora=5000 is no low rank for encoder=tiny" in result.err
    assert not list(tmp_path.iterdir())
