"""A fit that can be stopped and gone on with, as if it had never stopped.

Its state is kept after epochs, and within long ones between two steps. What is drawn in a step follows
seed, epoch and process, or stands in the state; so what is done twice comes out the same.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from tissueseg.errors import ConfigError
from tissueseg.modules.group import ALONE, Group, rank_draws, seed_draws, set_draws
from tissueseg.modules.state_files import StateFiles

_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; the end of a container or of a job that is pre-empted; what SLURM is asked to send in time, of
which submitit takes the second."""

_SHARE = 20
"""Keeping the state takes at most one part in so many of the time."""

_GO_ON, _KEEP, _STOP = range(3)


class Signals:
    """Takes note of what a terminal, cluster or container says when a run is to stop.

    Raised wherever it finds Python, Ctrl-C may fall into a callback of the garbage collection, of which
    streaming has many: there it is printed and dropped, and training goes on. Ctrl-C pressed again
    ends at once. Used in a `with` statement around fit and scoring, for Lightning puts handlers back that
    it found when they began.
    """

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None  # by this process or one that it trains with
        self._pressed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        """Listen from here on, but to those that this process was told to ignore."""
        if threading.current_thread() is threading.main_thread():
            for number in _HEEDED:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        """Let them do again what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._pressed:
                raise KeyboardInterrupt
            self._pressed = True
        self.heard = signal.Signals(number)


class StopsScoring(pl.Callback):
    """Stops a pass that only scores between two batches: its run goes on with scoring.

    Args:
        signals: that stop it.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """Stop here."""
        self._heed()

    def on_test_batch_start(self, *_: Any, **__: Any) -> None:
        """Stop here."""
        self._heed()

    def _heed(self) -> None:
        if self._signals.heard:
            raise KeyboardInterrupt


class Resumption(Checkpoint):
    """Keeps the state of a fit, stops it when it is told to, and goes on where a state says.

    A fit is stopped between two steps, or between two batches of a validation, whose epoch then begins
    at its last state. Several processes stop and keep together, after the same step, and never within
    a validation, where they take different numbers of batches.

    Args:
        files: that hold states.
        signals: that stop the fit.
        seed: of the run.
        group: of processes.
        every_s: an epoch that takes longer is kept this often.
        clock: seconds.
    """

    def __init__(
        self,
        files: StateFiles,
        signals: Signals,
        seed: int,
        group: Group = ALONE,
        every_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stopped = False
        self._files, self._signals, self._seed, self._group = files, signals, seed, group
        self._every_s, self._clock = every_s, clock
        self._kept_at, self._keeping_s = clock(), 0.0
        self._step = 0
        self._batches = 0  # done in this epoch; 0 when it is over
        self._ends = False  # training was to end after this epoch
        self._draws: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not train on where it was to end."""
        self._kept_at, self._step = self._clock(), trainer.global_step
        if self._ends:
            trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Choose what the step will draw."""
        if batch_idx == 0:
            seed_draws(self._seed, trainer.current_epoch, self._group.number)
        elif self._draws is not None:
            set_draws(self._draws)
        self._draws = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the state, or stop; what comes after the last batch belongs to the epoch's end."""
        if trainer.global_step == self._step:  # gradients are still gathered
            return
        self._step = trainer.global_step
        verdict = self._verdict(self._every_s)
        if verdict == _GO_ON or trainer.is_last_batch:
            return
        self._keep(trainer, batches=batch_idx + 1)
        if verdict == _STOP:
            self.stopped = True
            raise KeyboardInterrupt

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop here."""
        if self._signals.heard and self._group.of == 1 and trainer.state.fn == "fit":
            self.stopped = True
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the state after the epoch, and let it be the last if the fit is to stop."""
        verdict = self._verdict(0.0)
        if verdict == _GO_ON:
            return
        self._keep(trainer, batches=0)
        if verdict == _STOP:
            self.stopped = True
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Where this epoch stands; every process must ask."""
        return {
            "batches": self._batches,
            "of": self._group.of,
            "ends": self._ends,
            "draws": self._group.gathered(rank_draws()) if self._batches else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there.

        Raises:
            ConfigError: within an epoch whose batches other numbers of processes shared.
        """
        batches, of, draws = (state_dict[key] for key in ("batches", "of", "draws"))
        self._ends = state_dict["ends"]
        if batches and of != self._group.of:
            raise ConfigError(
                f"the run was stopped within an epoch that {of} processes shared, and would go on with "
                f"{self._group.of}: go on with as many (trainer.devices, trainer.num_nodes)."
            )
        self._draws = draws[self._group.number] if batches else None

    def _verdict(self, every_s: float) -> int:
        """What all of them do now: as the leader's clock says, and as any of them was told."""
        since = self._clock() - self._kept_at
        due = since >= max(every_s, _SHARE * self._keeping_s)
        heard = self._signals.heard
        own = _STOP + heard if heard else _KEEP if self._group.leads and due else _GO_ON
        verdict = self._group.highest(own)
        if verdict < _STOP:
            return verdict
        self._signals.heard = signal.Signals(verdict - _STOP)  # all of them end alike
        return _STOP

    def _keep(self, trainer: pl.Trainer, batches: int) -> None:
        began = self._clock()
        self._batches, self._ends = batches, trainer.should_stop
        trainer.save_checkpoint(self._files.folder)
        self._kept_at = self._clock()
        self._keeping_s = self._kept_at - began
