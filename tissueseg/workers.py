"""Which devices a command computes on, and one process for each of several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from tissueseg.command import task_words
from tissueseg.errors import ConfigError

if TYPE_CHECKING:
    import torch

_PATIENCE_S = 5.0  # with workers that are interrupted


def chosen_devices(config: DictConfig) -> list[torch.device]:
    """What `trainer.devices` asks for; in a cluster's job step, each task takes its own."""
    import torch

    asked, cuda = config.trainer.devices, torch.cuda.is_available()
    cuda = cuda and config.trainer.accelerator != "cpu"
    there = torch.cuda.device_count() if cuda else 0
    if OmegaConf.is_list(asked) and cuda:
        numbers = list(asked)
    elif asked in (-1, "auto"):
        numbers = list(range(there)) if cuda else [0]
    elif isinstance(asked, int) and not isinstance(asked, bool) and asked > 0:
        local = int(os.environ.get("SLURM_LOCALID", 0)) % there if cuda and asked == 1 else 0
        numbers = list(range(local, local + asked))
    else:
        raise ConfigError(
            f"trainer.devices={asked}, wanted how many, -1 for all, or, of CUDA, a list such as [0,1]."
        )
    in_range = all(isinstance(n, int) and 0 <= n < there for n in numbers)
    if cuda and not (numbers and in_range):
        raise ConfigError(f"trainer.devices={asked}, but this machine has {there} CUDA devices.")
    return [torch.device("cuda", n) if cuda else torch.device("cpu") for n in numbers]


def autocast_of(precision: str) -> torch.dtype | None:
    """As Lightning computes with that precision; None: float32 throughout."""
    import torch

    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)


def share(devices: Sequence[torch.device]) -> int:
    """One process per device, each taking tissues that no other is at; the worst exit code."""
    threads = str(max((os.cpu_count() or 1) // len(devices), 1))
    words = [w for w in task_words() if not w.startswith("trainer.devices=")]
    workers = []
    for device in devices:
        one = "1" if device.type == "cpu" else f"[{device.index}]"
        command = [sys.executable, "-m", "tissueseg.embed", *words, f"trainer.devices={one}"]
        environment = {"OMP_NUM_THREADS": threads} | os.environ
        workers.append(subprocess.Popen(command, env=environment))  # noqa: S603 - our own words
    signal.signal(signal.SIGTERM, lambda *_: _end(workers))
    try:
        codes = [worker.wait() for worker in workers]
    except KeyboardInterrupt:
        _interrupt(workers)
        raise
    for code in (code for code in codes if code < 0):
        print(f"error: a worker was ended by signal {-code}: embed again.", file=sys.stderr)
    return max(128 - code if code < 0 else code for code in codes)


def _end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """As a cluster ends a job: what they were at is encoded again."""
    for worker in workers:
        worker.terminate()
    sys.exit(128 + signal.SIGTERM)


def _interrupt(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let workers clean up; those of the same terminal have been told already."""
    until = time.monotonic() + _PATIENCE_S
    for worker in workers:
        try:
            worker.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGINT)
    for worker in workers:
        worker.wait()
