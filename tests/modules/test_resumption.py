"""When the state of a fit is kept, what stops it, and that it goes on where it stopped."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tissueseg.errors import ConfigError
from tissueseg.modules.group import Group
from tissueseg.modules.resumption import Resumption, Signals
from tissueseg.modules.state_files import StateFiles


class Fit:
    """A made-up fit, whose clock says what it is told, and who keeps how much."""

    def __init__(self, every_s: float = 100.0, keeping_s: float = 0.0, **group: int) -> None:
        self.now, self.keeping_s = 1000.0, keeping_s
        self.kept: list[float] = []
        self.signals = Signals()
        self.trainer: Any = SimpleNamespace(
            global_step=0,
            current_epoch=0,
            is_last_batch=False,
            should_stop=False,
            save_checkpoint=self._keep,
            state=SimpleNamespace(fn="fit"),
        )
        self.stops = Resumption(
            StateFiles(Path("state")),
            self.signals,
            seed=0,
            group=Group(**group),
            every_s=every_s,
            clock=lambda: self.now,
        )
        self("on_train_start")

    def _keep(self, folder: Path) -> None:
        self.kept.append(self.now)
        self.now += self.keeping_s

    def __call__(self, hook: str, *more: Any) -> None:
        getattr(self.stops, hook)(self.trainer, None, *more)

    def step(self, passed_s: float = 0.0, batch: int = 0) -> None:
        self.now += passed_s
        self.trainer.global_step += 1
        self("on_train_batch_end", None, None, batch)

    def epoch_end(self, passed_s: float = 0.0) -> None:
        self.now += passed_s
        self("on_train_epoch_end")
        self.trainer.current_epoch += 1


def test_the_state_is_kept_after_every_epoch() -> None:
    fit = Fit()
    for _ in range(3):
        fit.step(1)
        fit.epoch_end(1)
    assert fit.kept == [1002, 1004, 1006]


def test_within_long_epochs_it_is_kept_every_so_often() -> None:
    fit = Fit(every_s=100)
    for _ in range(12):
        fit.step(40)
    assert fit.kept == [1120, 1240, 1360, 1480]


def test_keeping_it_takes_a_twentieth_of_the_time_at_most() -> None:
    fit = Fit(every_s=1, keeping_s=3)
    began = fit.now
    for _ in range(1000):
        fit.step(1)
        fit.epoch_end()
    assert len(fit.kept) > 10
    assert len(fit.kept) * 3 <= (fit.now - began) / 20 + 3


def test_gathered_gradients_are_no_step() -> None:
    fit = Fit(every_s=10)
    fit.now += 99
    fit("on_train_batch_end", None, None, 0)
    assert fit.kept == []
    fit.step()
    assert len(fit.kept) == 1


def test_after_its_last_batch_an_epoch_is_kept_when_it_is_scored() -> None:
    fit = Fit(every_s=10)
    fit.trainer.is_last_batch = True
    fit.signals.heard = signal.SIGTERM
    fit.step(99)
    assert (fit.kept, fit.stops.stopped) == ([], False)
    fit.epoch_end()
    assert (len(fit.kept), fit.stops.stopped, fit.trainer.should_stop) == (1, True, True)


@pytest.mark.parametrize("leap_s", [-1e9, 0.0, 1e9])
def test_a_clock_that_leaps_or_stands_still_costs_states_but_no_fit(leap_s: float) -> None:
    fit = Fit(every_s=10)
    fit.step(20)
    fit.now += leap_s
    for _ in range(5):
        fit.step(0)
        fit.epoch_end()
    fit.signals.heard = signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        fit.step()
    assert fit.kept[-1] == fit.now


def test_a_clock_that_was_put_back_is_waited_for_once() -> None:
    fit = Fit(every_s=10)
    fit.step(20)
    fit.now -= 500
    fit.epoch_end()
    fit.step(510)
    assert len(fit.kept) == 2


def test_told_to_stop_it_keeps_its_state_after_the_step() -> None:
    fit = Fit()
    fit.signals.heard = signal.SIGUSR1
    with pytest.raises(KeyboardInterrupt):
        fit.step(batch=4)
    assert (len(fit.kept), fit.stops.stopped) == (1, True)
    assert fit.stops.state_dict()["batches"] == 5


def test_a_validation_is_left_at_once() -> None:
    fit = Fit()
    fit("on_validation_batch_start", None, 0)
    fit.signals.heard = signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        fit("on_validation_batch_start", None, 1)
    assert (fit.kept, fit.stops.stopped) == ([], True)


def test_passes_that_only_score_are_not_its_own() -> None:
    fit = Fit()
    fit.signals.heard, fit.trainer.state.fn = signal.SIGTERM, "validate"
    fit("on_validation_batch_start", None, 0)
    assert not fit.stops.stopped


def test_a_fit_that_was_to_end_does_not_train_on() -> None:
    fit = Fit()
    fit.trainer.should_stop = True
    fit.epoch_end()
    again = Fit()
    again.stops.load_state_dict(fit.stops.state_dict())
    again("on_train_start")
    assert again.trainer.should_stop


def test_a_fit_that_was_told_to_stop_between_epochs_trains_on() -> None:
    fit = Fit()
    fit.signals.heard = signal.SIGTERM
    fit.epoch_end()
    again = Fit()
    again.stops.load_state_dict(fit.stops.state_dict())
    again("on_train_start")
    assert not again.trainer.should_stop


def test_other_numbers_of_processes_share_no_epoch() -> None:
    fit = Fit()
    fit.signals.heard = signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        fit.step()
    state = fit.stops.state_dict()
    with pytest.raises(ConfigError, match="that 1 processes shared, and would go on with 2"):
        Resumption(StateFiles(Path("state")), Signals(), 0, Group(0, 2)).load_state_dict(state)
    assert (state["batches"], state["of"]) == (1, 1)


def test_between_epochs_they_may_be_others() -> None:
    fit = Fit()
    fit.epoch_end()
    other = Resumption(StateFiles(Path("state")), Signals(), 0, Group(1, 2))
    other.load_state_dict(fit.stops.state_dict())
    assert fit.stops.state_dict()["draws"] == []


def drawn(fit: Fit, batch: int) -> list[float]:
    fit("on_train_batch_start", None, batch)
    return torch.rand(3).tolist()


def test_what_is_drawn_follows_seed_and_epoch_and_goes_on_within_it() -> None:
    fit, fresh = Fit(), Fit()
    whole = [drawn(fit, batch) for batch in range(3)]
    torch.manual_seed(7)  # whatever was drawn before
    assert drawn(fresh, 0) == whole[0]
    fresh.signals.heard = signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        fresh.step()
    again = Fit()
    again.stops.load_state_dict(fresh.stops.state_dict())
    torch.manual_seed(8)
    assert [drawn(again, 1), drawn(again, 2)] == whole[1:]
    fit.trainer.current_epoch = 1
    assert drawn(fit, 0) != whole[0]
