"""Which devices a command computes on, and in which number type."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from tissueseg.errors import ConfigError

if TYPE_CHECKING:
    import torch


def chosen_devices(config: DictConfig) -> list[torch.device]:
    """What `trainer.devices` asks for; of several processes that ask for one, each takes its own."""
    import torch

    asked, cuda = config.trainer.devices, torch.cuda.is_available()
    cuda = cuda and config.trainer.accelerator != "cpu"
    there = torch.cuda.device_count() if cuda else 0
    if OmegaConf.is_list(asked) and cuda:
        numbers = list(asked)
    elif asked in (-1, "auto"):
        numbers = list(range(there)) if cuda else [0]
    elif isinstance(asked, int) and not isinstance(asked, bool) and asked > 0:
        local = local_number() % there if there and asked == 1 else 0
        numbers = list(range(local, local + asked))
    else:
        raise ConfigError(
            f"trainer.devices={asked}, wanted how many, -1 for all, or, of CUDA, a list such as [0,1]."
        )
    in_range = all(isinstance(n, int) and 0 <= n < there for n in numbers)
    if cuda and not (numbers and in_range):
        raise ConfigError(f"trainer.devices={asked}, but this machine has {there} CUDA devices.")
    return [torch.device("cuda", n) if cuda else torch.device("cpu") for n in numbers]


def own_device(config: DictConfig) -> torch.device:
    """Of those that `trainer.devices` asks for, the one that this process of its machine takes."""
    devices = chosen_devices(config)
    return devices[local_number() % len(devices)]


def local_number(environment: Mapping[str, str] = os.environ) -> int:
    """Of this process among those of its machine, as torch or SLURM say it."""
    return int(environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", 0)))


def processes_here(environment: Mapping[str, str] = os.environ) -> int:
    """How many share the CPUs of this process; SLURM gives every task its own."""
    return int(environment.get("LOCAL_WORLD_SIZE", 1))


def autocast_of(precision: str) -> torch.dtype | None:
    """As Lightning computes with that precision; None: float32 throughout."""
    import torch

    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
