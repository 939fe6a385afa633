"""An exponential moving average of what learns, in whose place every validation sees it.

Lightning's own callback copies the whole module, frozen encoder included, and takes the average out
before `on_validation_end`, where the best decoder is kept. This one holds what learns alone, and gives
the last weights back when everyone else has looked: it stands behind the other callbacks.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tissueseg.modules.callbacks import BestDecoder
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.numbers import check_number

_STATISTICS = ("running_mean", "running_var")
_Batch = nn.modules.batchnorm._BatchNorm


class Averaging(pl.Callback):
    """After step n: average ← d·average + (1 − d)·weights, with d = min(decay, (1 + n)/(10 + n)).

    The smaller d of the first steps is TensorFlow's (`ExponentialMovingAverage`, `num_updates`): else a
    short run would be scored by its random start. Averaged are the parameters of the decoder, those of
    the encoder that learn, and the decoder's batch statistics. Other buffers are state, not weights,
    such as how far a gate has opened: the current ones count. So do weights between heads.

    Args:
        decay: d, above 0 and below 1; `null` in a configuration leaves this callback out.
    """

    def __init__(self, decay: float) -> None:
        self.decay = check_decay(decay)
        self._average: dict[str, Tensor] = {}
        self._current: dict[str, Tensor] = {}  # the module's own, of the same names
        self._steps = 0
        self._swapped = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are, or where the run before stopped."""
        others = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        if any(isinstance(other, BestDecoder) for other in others[others.index(self) :]):
            raise RuntimeError(
                "Averaging must stand behind BestDecoder, which keeps what it shows."
            )
        self._current = averaged(pl_module)
        given = self._average or self._current
        self._average = {n: given[n].detach().to(t, copy=True) for n, t in self._current.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Follow the weights, once per step of the optimizer."""
        if trainer.global_step <= self._steps:  # gradients are still gathered
            return
        self._steps = trainer.global_step
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        weights = [t.detach() for t in self._current.values()]
        follow = get_ema_multi_avg_fn(decay)
        follow(list(self._average.values()), weights, self._steps)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights."""
        if trainer.state.fn == "fit" and not self._swapped:
            self._swap()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the weights back."""
        if self._swapped:
            self._swap()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the module with its own weights, wherever the run broke off."""
        self.on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The average, for a run that goes on."""
        return {"average": dict(self._average), "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the average of the run before."""
        self._average, self._steps = dict(state_dict["average"]), state_dict["steps"]

    @torch.no_grad()
    def _swap(self) -> None:
        self._swapped = not self._swapped
        for name, current in self._current.items():
            before = current.detach().clone()
            current.copy_(self._average[name])
            self._average[name].copy_(before)


def averaged(module: pl.LightningModule) -> dict[str, Tensor]:
    """What of a module is averaged, by name: the tensors themselves."""
    assert isinstance(module, SegmentationModule)
    statistics = {
        f"decoder.{prefix}.{name}": buffer
        for prefix, layer in module.decoder.named_modules()
        if isinstance(layer, _Batch)
        for name, buffer in layer.named_buffers(recurse=False)
        if name in _STATISTICS
    }
    return {**module.learning(), **statistics}


def check_decay(decay: Any) -> float:
    """Refuse what averages nothing, or never moves.

    Raises:
        ConfigError: not a number above 0 and below 1.
    """
    return check_number("ema", decay, above=0, below=1, note="a decay such as 0.999, or null")
