"""What a fit took: from made-up fits with a clock of their own, and from a small real one."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from tissueseg.modules import cost as measured_in
from tissueseg.modules.cost import Cost, resident_bytes


class Fit:
    """A made-up fit whose time is told."""

    def __init__(self, device: str = "cpu", world_size: int = 1) -> None:
        self.now, self.written = 100.0, []
        self.cost = Cost(lambda found: self.written.append(dict(found)), clock=lambda: self.now)
        self.module: Any = nn.ModuleDict({"decoder": nn.Linear(3, 2), "encoder": nn.Linear(2, 2)})
        self.module.decoder = self.module["decoder"]
        self.module["encoder"].requires_grad_(False)
        self.trainer: Any = SimpleNamespace(
            strategy=SimpleNamespace(root_device=torch.device(device)),
            global_step=0,
            world_size=world_size,
            is_global_zero=True,
        )

    def __call__(self, hook: str, *more: Any) -> None:
        getattr(self.cost, hook)(self.trainer, self.module, *more)

    def start(self, step: int = 0) -> Fit:
        self("on_fit_start")
        self.trainer.global_step = step
        self("on_train_start")
        return self

    def steps(self, *seconds: float) -> None:
        for passed in seconds:
            self.now += passed
            self.trainer.global_step += 1
            self("on_train_batch_end", None, None, 0)

    def epoch(self, *seconds: float, validation_s: float = 50.0) -> None:
        self("on_train_epoch_start")
        self.steps(*seconds)
        self.validate(validation_s)
        self("on_train_epoch_end")

    def validate(self, seconds: float) -> None:
        self("on_validation_start")
        self.now += seconds
        self("on_validation_end")

    def end(self) -> dict[str, Any]:
        self("on_fit_end")
        return self.written[-1]


def test_a_step_is_the_median_from_batch_end_to_batch_end_without_the_first_two() -> None:
    fit = Fit().start()
    fit.epoch(90, 80, 3, 4)  # 80 is left out as a second step, 90 as the first of an epoch too
    fit.epoch(70, 5, 6)
    found = fit.end()
    assert (found["step_s"], found["step_of"], found["steps"]) == (4.5, "step", 7)
    assert found["fit_s"] == 90 + 80 + 3 + 4 + 70 + 5 + 6 + 2 * 50


def test_a_validation_amid_an_epoch_is_no_step() -> None:
    fit = Fit().start()
    fit("on_train_epoch_start")
    fit.steps(9, 9, 2)
    fit.validate(500)
    fit.steps(9, 4)
    assert fit.end()["step_s"] == 3


def test_batches_that_only_gather_gradients_belong_to_their_step() -> None:
    fit = Fit().start()
    fit("on_train_epoch_start")
    fit.steps(9, 9)
    for _ in range(2):
        fit.now += 1
        fit("on_train_batch_end", None, None, 0)  # no step of the optimizer
        fit.steps(2)
    found = fit.end()
    assert (found["step_s"], found["steps"]) == (3, 4)


def test_epochs_too_short_to_time_a_step_are_divided_by_their_steps() -> None:
    fit = Fit().start()
    for seconds in (90.0, 2.0, 8.0, 4.0):
        fit.epoch(seconds)
    found = fit.end()
    assert (found["step_s"], found["step_of"]) == (4, "epoch")


def test_one_epoch_of_one_step_is_better_than_nothing() -> None:
    fit = Fit().start()
    fit.epoch(7)
    assert fit.end()["step_s"] == 7


def test_a_fit_without_a_step_has_no_time_of_one() -> None:
    found = Fit().start().end()
    assert (found["steps"], found["step_s"]) == (0, None)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be asked of a GPU."""
    asked: list[str] = []

    def note(name: str, answer: int | None = None) -> Callable[..., int | None]:
        return lambda device: (asked.append(f"{name} {device}"), answer)[1]

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", note("reset"))
    monkeypatch.setattr(torch.cuda, "synchronize", note("wait"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", note("peak", 4321))
    return asked


def test_on_cuda_epochs_are_waited_for_and_steps_are_not(cuda: list[str]) -> None:
    fit = Fit("cuda:1", world_size=2).start()
    fit("on_train_epoch_start")
    before = len(cuda)
    fit.steps(1, 2, 3)
    assert len(cuda) == before
    fit.validate(50)
    fit("on_train_epoch_end")
    fit.epoch(9, 1, 2)
    found = fit.end()
    assert (found["step_s"], found["step_of"]) == (4, "epoch")  # the first epoch pays for more
    assert (found["peak_bytes"], found["peak_of"]) == (4321, "cuda")
    assert found["devices"] == 2
    assert found["gpu_hours"] == pytest.approx((6 + 50 + 12 + 50) * 2 / 3600)
    assert cuda[0] == "reset cuda:1"
    assert cuda.count("wait cuda:1") == 2 * 4  # around training and validation of each epoch


def test_a_cpu_takes_no_gpu_hours() -> None:
    found = Fit().start().end()
    assert (found["gpu_hours"], found["devices"], found["peak_of"]) == (0.0, 1, "process")


def test_parameters_of_the_decoder_and_of_all_that_learns() -> None:
    fit = Fit().start()
    found = fit.end()
    assert (found["parameters"], found["trained_parameters"]) == (8, 8)
    fit.module["encoder"].bias.requires_grad_(True)
    assert fit.end()["trained_parameters"] == 10


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_a_process_s_peak_is_in_bytes(
    monkeypatch: pytest.MonkeyPatch, system: str, unit: int
) -> None:
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=77))
    monkeypatch.setattr(sys, "platform", system)
    assert resident_bytes() == 77 * unit


def test_a_fit_that_goes_on_adds_to_what_was_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_in, "resident_bytes", lambda: 900)
    before = Fit().start()
    before.epoch(90, 80, 3)
    state = before.cost.state_dict()
    monkeypatch.setattr(measured_in, "resident_bytes", lambda: 300)
    after = Fit()
    after.cost.load_state_dict(state)
    after.start(step=3)
    after.epoch(9, 8, 5)
    found = after.end()
    assert found["steps"] == 6
    assert found["fit_s"] == (90 + 80 + 3 + 50) + (9 + 8 + 5 + 50)
    assert found["step_s"] == 5
    assert found["peak_bytes"] == 900


def test_a_fit_that_breaks_off_was_paid_for_too() -> None:
    fit = Fit().start()
    fit("on_train_epoch_start")
    fit.steps(9, 9, 2)
    fit("on_exception", KeyboardInterrupt())
    assert (fit.written[-1]["steps"], fit.written[-1]["fit_s"]) == (3, 20)


def test_nothing_is_written_of_a_fit_that_never_began_or_by_other_processes() -> None:
    fit = Fit()
    fit("on_exception", RuntimeError())
    fit.trainer.is_global_zero = False
    fit.start()
    fit("on_fit_end")
    assert fit.written == []


class Stops(Callback):
    """Ctrl-C after the first step."""

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        if trainer.global_step == 1:
            raise KeyboardInterrupt


def test_a_real_fit_is_measured_and_continued(make_run: Callable) -> None:
    run, found = make_run("trainer.max_epochs=1"), []
    trainer = run.fit(Cost(found.append))
    batches = len(run.data.train_dataloader())
    assert found[-1]["steps"] == batches == trainer.global_step
    assert 0 < found[-1]["step_s"] < found[-1]["fit_s"]
    assert found[-1]["peak_bytes"] > 50e6  # torch alone is more
    assert found[-1]["parameters"] == sum(p.numel() for p in run.module.decoder.parameters())
    assert found[-1]["trained_parameters"] == found[-1]["parameters"]  # the encoder is frozen
    trainer.save_checkpoint(run.folder / "last.ckpt")
    again, more = make_run("trainer.max_epochs=2", folder="again"), []
    again.fit(Cost(more.append), ckpt_path=run.folder / "last.ckpt")
    assert more[-1]["steps"] == 2 * batches
    assert more[-1]["fit_s"] > found[-1]["fit_s"]


def test_a_real_fit_that_is_interrupted_is_measured(make_run: Callable) -> None:
    run, found = make_run(), []
    with pytest.raises(SystemExit):
        run.fit(Cost(found.append), Stops())
    assert [measured["steps"] for measured in found] == [1]
