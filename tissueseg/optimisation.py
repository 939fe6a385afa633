"""How a run learns: what of its encoder, by which optimizer and schedule; checked before anything opens.

Optimizer and schedule are tried on a parameter of their own: what they refuse, they refuse here too,
rather than after a store was opened and an encoder built.
"""

from __future__ import annotations

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from tissueseg.building import build, finish
from tissueseg.composition import plain
from tissueseg.encoders.finetune import Finetune
from tissueseg.errors import ConfigError
from tissueseg.modules.averaging import check_decay
from tissueseg.numbers import check_number, shown


def finetune_of(config: DictConfig) -> Finetune:
    """What of the encoder learns, as configured.

    Raises:
        ConfigError: options that cannot be used.
    """
    options = OmegaConf.select(config, "finetune")
    if not isinstance(options, DictConfig):
        raise ConfigError(f"finetune={options}, wanted blocks, lora, lora_alpha and lr_factor.")
    return finish("finetune", Finetune, **plain(options))


def check_learning(config: DictConfig) -> None:
    """Refuse a moving average or fine-tuning that cannot be, and features that would not follow it.

    Raises:
        ConfigError: naming the option.
    """
    if config.ema is not None:
        check_decay(config.ema)
    how = finetune_of(config)
    if how.active and config.features == "stored":
        raise ConfigError(
            f"features=stored, but {how.said} changes the encoder in every step, and stored features "
            "are those of the frozen one: choose features=online, or leave the encoder frozen."
        )


def check_optimizer(config: DictConfig) -> None:
    """Refuse an optimizer or schedule with numbers that they cannot take.

    Raises:
        ConfigError: naming the option, or what they say of it.
    """
    for key, node in config.optim.items():
        if not OmegaConf.is_dict(node) or "_target_" not in node:
            raise ConfigError(f"optim.{key}={shown(node)}, wanted a _target_ and its options.")
    for key in ("lr", "weight_decay"):
        if key in config.optim.optimizer:
            check_number(f"optim.optimizer.{key}", config.optim.optimizer[key], lowest=0)
    tried = [nn.Parameter(torch.zeros(1))]
    optimizer = finish("optim.optimizer", lambda: build(config.optim.optimizer)(tried))
    finish("optim.scheduler", lambda: build(config.optim.scheduler)(optimizer))
