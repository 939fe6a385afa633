"""A fit in a run folder, which begins or goes on and which signals stop: what trainings share."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import lightning.pytorch as pl
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console

from tissueseg.errors import INTERRUPTED, STOPPED
from tissueseg.modules.group import Group
from tissueseg.modules.resumption import Resumption, Signals
from tissueseg.modules.state_files import StateFiles
from tissueseg.reporting import runs
from tissueseg.run_folder import Described, Folder
from tissueseg.trainer import build_trainer

if TYPE_CHECKING:
    from tissueseg.ranks import Rank


class Fitted(Described, Protocol):
    """What a fit is made of, opened and checked."""

    @property
    def name(self) -> str:
        """Of the run."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """For the user."""
        ...

    @property
    def data(self) -> pl.LightningDataModule:
        """What feeds it."""
        ...

    @property
    def module(self) -> pl.LightningModule:
        """What learns."""
        ...


PartsT = TypeVar("PartsT", bound=Fitted)


@dataclass(frozen=True)
class Fitting(ABC, Generic[PartsT]):
    """A fit that may begin, or go on.

    Args:
        parts: opened and checked.
        folder: that this job holds.
        loggers: beside `metrics.csv`.
        console: quiet in all processes but the first.
        rank: of this process; None: it is alone.
        group: of the processes that train together.
        signals: that stop it.
    """

    parts: PartsT
    folder: Folder
    loggers: list[Logger]
    console: Console
    rank: Rank | None
    group: Group
    signals: Signals

    def run(self) -> int:
        """Fit and score; the exit code if it was stopped, else 0."""
        if not (self._fit() or self._score()):
            return 0
        heard = self.signals.heard
        return INTERRUPTED if heard in (None, signal.SIGINT) else STOPPED + heard

    @abstractmethod
    def _score(self) -> bool:
        """Score what was learnt; whether it was stopped."""

    @abstractmethod
    def _callbacks(self) -> list[Any]:
        """What happens around the fit, in this order."""

    def _fit(self) -> bool:
        """Train; whether it was stopped."""
        config, folder = self.parts.config, self.folder
        states = StateFiles(folder.path / runs.STATE)
        every_s = config.state.every_s
        resumption = Resumption(states, self.signals, config.seed, self.group, every_s)
        callbacks = [*self._callbacks(), resumption]
        trainer = build_trainer(
            config, self.console, callbacks, self.loggers, rank=self.rank, states=states
        )
        module, data, state = self.parts.module, self.parts.data, folder.state
        with interruptible(trainer), runs.disk_errors(folder.path):
            trainer.fit(module, datamodule=data, ckpt_path=state, weights_only=True)
        return resumption.stopped or trainer.interrupted

    def _is_told_to_stop(self) -> bool:
        """Whether this process, or one that it trains with, has heard a signal; all of them ask."""
        heard = self.group.highest(self.signals.heard or 0)
        if heard:
            self.signals.heard = signal.Signals(heard)
        return bool(heard)


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Let a fit or a pass be interrupted, which Lightning ends as it would end a program."""
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
