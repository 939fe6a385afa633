"""Learning rates by epoch: a linear warm-up, then one cosine, or one after another.

Written as a closed form of the epoch, so that a resumed run needs nothing but its number, and so that
no group of parameters ever rises to a floor above its own rate.
"""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tissueseg.errors import ConfigError
from tissueseg.numbers import check_number, check_whole


class Cosine(LRScheduler):
    """One annealing from each group's rate to `eta_min`, reached after `period` epochs, and held.

    Epoch e of a warm-up of w epochs has (e + 1)/(w + 1) of the rate. Then, over the P − w epochs that
    are left, η(t) = η_min + (η − η_min)·(1 + cos(π·t/(P − w)))/2 (Loshchilov & Hutter 2017, eq. 5).

    Args:
        optimizer: whose groups have rates of their own.
        period: epochs, warm-up included.
        eta_min: lowest rate; a group that starts below it stays where it is.
        warmup: epochs.

    Raises:
        ConfigError: numbers that make no schedule.
    """

    def __init__(
        self, optimizer: Optimizer, period: int, eta_min: float = 0.0, warmup: int = 0
    ) -> None:
        check_whole("optim.scheduler.period", period, 1, note="epochs")
        check_whole("optim.scheduler.warmup", warmup, 0, note="epochs")
        check_number("optim.scheduler.eta_min", eta_min, 0, note="a learning rate")
        self.period, self.eta_min, self.warmup = period, eta_min, warmup
        self._check_room()
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The rate of every group in this epoch."""
        return [self._rate(float(base)) for base in self.base_lrs]

    def _rate(self, base: float) -> float:
        epoch = self.last_epoch
        if epoch < self.warmup:
            return base * (epoch + 1) / (self.warmup + 1)
        lowest = min(self.eta_min, base)
        turn = math.pi * self._position(epoch - self.warmup)
        return lowest + (base - lowest) * (1 + math.cos(turn)) / 2

    def _position(self, epochs: int) -> float:
        """How far along the cosine a schedule is, `epochs` after the warm-up: 0 … 1."""
        return min(epochs / (self.period - self.warmup), 1.0)

    def _check_room(self) -> None:
        if self.warmup >= self.period:
            raise ConfigError(
                f"optim.scheduler.warmup={self.warmup} leaves nothing of optim.scheduler.period="
                f"{self.period} to anneal in: give fewer epochs of warm-up."
            )


class WarmRestarts(Cosine):
    """A cosine of `period` epochs, again and again; the warm-up comes before the first alone."""

    def _position(self, epochs: int) -> float:
        return epochs % self.period / self.period

    def _check_room(self) -> None:
        """Any warm-up leaves room: the cosines begin when it is over."""
