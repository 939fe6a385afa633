"""Signals that stop a fit: noted wherever they come, heeded between two batches."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback
from rich.console import Console

from tissueseg.modules.resumption import Resumption, Signals
from tissueseg.modules.state_files import StateFiles
from tissueseg.trainer import build_trainer

CONSOLE = Console(quiet=True)
HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def as_started() -> Iterator[None]:
    """Handlers of a new process: whoever runs tests may ignore Ctrl-C."""
    usual: dict[int, Any] = dict.fromkeys(HEEDED, signal.SIG_DFL) | {
        signal.SIGINT: signal.default_int_handler
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", HEEDED)
def test_a_signal_is_noted_and_nothing_else(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.heard is None
        os.kill(os.getpid(), number)
        assert signals.heard == number
    assert signal.getsignal(number) is before  # a later one is somebody else's


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_one_that_comes_again_is_noted_again(number: signal.Signals) -> None:
    with Signals() as signals:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert signals.heard == number


@pytest.mark.parametrize("between", [[], [signal.SIGTERM]])
def test_ctrl_c_pressed_again_ends_at_once(between: list[signal.Signals]) -> None:
    with Signals():
        for number in (signal.SIGINT, *between):
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_that_another_process_heard_is_not_pressed_here() -> None:
    with Signals() as signals:
        signals.heard = signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.heard == signal.SIGINT


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_signals_that_are_ignored_or_handled_stay_so(handler: Any) -> None:
    for number in HEEDED:
        signal.signal(number, handler)
    with Signals() as signals:
        for number in HEEDED:
            assert signal.getsignal(number) is handler
            os.kill(os.getpid(), number)
        assert signals.heard is None


def test_outside_the_main_thread_nothing_is_listened_to() -> None:
    listening = []

    def listen() -> None:
        with Signals():
            listening.extend(signal.getsignal(number) for number in HEEDED)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert listening == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]


class Presses(Callback):
    """Ctrl-C, so many times, where Python would drop what is raised."""

    def __init__(self, times: int) -> None:
        self.times, self.batches, self.went_on = times, 0, False

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1
        collected = np.zeros(1)
        weakref.finalize(collected, os.kill, os.getpid(), signal.SIGINT)
        del collected
        for _ in range(self.times - 1):
            os.kill(os.getpid(), signal.SIGINT)
        self.went_on = True


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_a_fit_between_batches_and_at_once_if_pressed_again(
    make_run: Any, times: int
) -> None:
    run, presses, signals = make_run("data.batch_size=2"), Presses(times), Signals()
    states = StateFiles(run.folder / "state")
    stops = Resumption(states, signals, seed=0)
    trainer = build_trainer(run.config, CONSOLE, [presses, stops], states=states)
    with pytest.raises(SystemExit), signals:  # how Lightning ends after Ctrl-C
        trainer.fit(run.module, datamodule=run.data)
    assert (presses.batches, presses.went_on) == (1, times == 1)
    assert stops.stopped == (times == 1)
    assert (states.recover()[0] is not None) == (times == 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
