"""The search in `slurm/wandb_sweep.yaml`: W&B takes it, and its agents start our command."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
import yaml
from stores import compose

from tissueseg import preflight
from tissueseg.composition import plain
from tissueseg.config import CONFIG_DIR
from tissueseg.modules.tracking import BEST

SWEEP = CONFIG_DIR.parent / "slurm/wandb_sweep.yaml"


def draws() -> list[dict[str, Any]]:
    """Of every parameter its ends or values, in all combinations."""
    parameters = yaml.safe_load(SWEEP.read_text())["parameters"]
    choices = [about.get("values") or [about["min"], about["max"]] for about in parameters.values()]
    return [dict(zip(parameters, values, strict=True)) for values in product(*choices)]


def agents_command(draw: dict[str, Any]) -> list[str]:
    """What W&B's own agent would start."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load(SWEEP.read_text())
    args = {"args": {name: {"value": value} for name, value in draw.items()}}
    filled = create_sweep_command_args(args)
    filled |= {"env": ["/usr/bin/env"], "interpreter": ["python"]}
    words: list[str] = []
    for word in create_sweep_command(sweep["command"]):
        macro = re.fullmatch(r"\$\{(\w+)\}", word)
        words += filled[macro[1]] if macro else [word]
    return words


@pytest.mark.parametrize("draw", draws()[::5], ids=str)
def test_the_search_starts_the_same_command(draw: dict[str, Any]) -> None:
    start, words = agents_command(draw)[:4], agents_command(draw)[4:]
    assert start == ["/usr/bin/env", "python", "-m", "tissueseg.train"]
    config = compose("setting=demo", "name=searched", *words)
    assert config.optim.optimizer.lr == draw["optim.optimizer.lr"]
    assert config.sampling.gamma == draw["sampling.gamma"]
    assert config.logger.wandb is not None
    preflight.check(config)
    assert set(plain(config)["loss"]["terms"]) >= {"ce", "dice"}


def test_the_search_is_one_that_wandb_takes_and_chooses_on_val() -> None:
    from wandb.apis.public.sweeps import _validate_config_and_fill_distribution

    sweep = yaml.safe_load(SWEEP.read_text())
    assert _validate_config_and_fill_distribution(sweep) == sweep
    assert sweep["metric"] == {"name": BEST, "goal": "maximize"}
    assert BEST.startswith("val/")
