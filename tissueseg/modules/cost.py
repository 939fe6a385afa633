"""What a fit took: parameters, steps, seconds, memory, GPU hours.

Kept beside the numbers a run is judged by, never among them: equal runs must leave equal scores.
"""

from __future__ import annotations

import statistics
import sys
import time
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from tissueseg.modules.group import ALONE, Group

_WARM_UP = 2
"""First steps of a fit, which pay for allocating memory and choosing kernels."""

_HOUR_S = 3600


class Cost(pl.Callback):
    """Measures a fit and hands it on when it is over, however it ended.

    `parameters` of the decoder (of the module, if it has none) and `trained_parameters` of all that
    learns; `steps` of the optimizer;
    `step_s`, the median time of one, data included, taken `step_of` the "step" or the "epoch": on a
    CPU from batch end to batch end, the first two steps and validations left out. On CUDA, where a
    step would have to be waited for, training between validations is timed as a whole and divided by
    its steps, its first such stretch left out if there are others; so it is where an epoch has too
    few steps to time one. `fit_s` holds validations and pictures too. `peak_bytes` is `peak_of` "cuda":
    most memory allocated on this process's device since the fit began; or "process": most resident
    memory since the process began, without its workers. A fit that is continued adds its `fit_s` and
    `steps` to those before and keeps the higher peak; its `step_s` is its own.

    Args:
        save: writes what was measured.
        group: of processes, of which the one with the highest peak counts.
        clock: seconds.
    """

    def __init__(
        self,
        save: Callable[[Mapping[str, Any]], None],
        group: Group = ALONE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._save, self._group, self._clock = save, group, clock
        self._before_s, self._before_bytes = 0.0, 0
        self._started: float | None = None
        self._device = torch.device("cpu")
        self._steps, self._warming = 0, 0  # seen of the optimizer; before those that are timed
        self._step_s, self._stretch_s = array("d"), array("d")
        self._last_end: float | None = None  # of a step
        self._stretch: tuple[float, int] | None = None  # training goes on since, and from this step

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._device, self._started = trainer.strategy.root_device, self._clock()
        if self._on_cuda:
            torch.cuda.reset_peak_memory_stats(self._device)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where a run before has stopped."""
        self._steps, self._warming = trainer.global_step, trainer.global_step + _WARM_UP

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A stretch of training begins."""
        self._begin(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training goes on, unless the epoch is over."""
        self._begin(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Note when a step was done."""
        if trainer.global_step == self._steps:  # gradients are still gathered
            return
        self._steps, now = trainer.global_step, self._clock()
        if self._last_end is not None and self._steps > self._warming:
            self._step_s.append(now - self._last_end)
        self._last_end = now

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training pauses."""
        self._end(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The epoch is over, validated or not."""
        self._end(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand on what was measured."""
        self._before_bytes = max(self._group.gathered(self._peak_bytes()))
        self._finish(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """What was begun was paid for; a disk that does not take it is not what ended the fit."""
        with suppress(OSError):
            self._finish(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What was paid so far."""
        return {"fit_s": self._fit_s(), "steps": self._steps, "peak_bytes": self._peak_bytes()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add to what the run before took."""
        self._before_s, self._before_bytes = state_dict["fit_s"], state_dict["peak_bytes"]
        self._steps = state_dict["steps"]

    def measured(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """All of it in plain types; `step_s` None where no step was timed."""
        fit_s, devices = self._fit_s(), trainer.world_size
        step_s, step_of = self._time_of_a_step()
        return {
            "parameters": _size(getattr(module, "decoder", module)),
            "trained_parameters": _size(module, trained=True),
            "steps": self._steps,
            "step_s": step_s,
            "step_of": step_of,
            "fit_s": fit_s,
            "peak_bytes": self._peak_bytes(),
            "peak_of": "cuda" if self._on_cuda else "process",
            "devices": devices,
            "gpu_hours": fit_s * devices / _HOUR_S if self._on_cuda else 0.0,
        }

    @property
    def _on_cuda(self) -> bool:
        return self._device.type == "cuda"

    def _finish(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._started is not None and trainer.is_global_zero:
            self._save(self.measured(trainer, module))

    def _begin(self, trainer: pl.Trainer) -> None:
        self._wait()
        self._last_end, self._stretch = None, (self._clock(), trainer.global_step)

    def _end(self, trainer: pl.Trainer) -> None:
        if self._stretch is None:
            return
        self._wait()
        began, step = self._stretch
        if steps := trainer.global_step - step:
            self._stretch_s.append((self._clock() - began) / steps)
        self._last_end = self._stretch = None

    def _wait(self) -> None:
        if self._on_cuda:
            torch.cuda.synchronize(self._device)

    def _time_of_a_step(self) -> tuple[float | None, str]:
        if self._step_s and not self._on_cuda:
            return statistics.median(self._step_s), "step"
        steady = self._stretch_s[1:] or self._stretch_s
        return statistics.median(steady) if steady else None, "epoch"

    def _fit_s(self) -> float:
        now = 0.0 if self._started is None else self._clock() - self._started
        return self._before_s + now

    def _peak_bytes(self) -> int:
        now = torch.cuda.max_memory_allocated(self._device) if self._on_cuda else resident_bytes()
        return max(now, self._before_bytes)


def resident_bytes() -> int:
    """Most memory this process has held, from the system's own account of it."""
    import resource  # here, not above: it is not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes elsewhere (getrusage(2))


def _size(module: Any, trained: bool = False) -> int:
    assert isinstance(module, nn.Module)
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)
