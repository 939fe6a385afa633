"""Learning rates over epochs, by hand; without a warm-up they are torch's own."""

import math

import pytest
import torch
from stores import compose
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts

from tissueseg.building import build
from tissueseg.errors import ConfigError
from tissueseg.modules.schedules import Cosine, WarmRestarts


def optimizer(*rates):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": r} for r in rates])


def rates(schedule, epochs, groups=(1.0,)):
    """The rates of each epoch, a list a group."""
    stepped = optimizer(*groups)
    scheduler, seen = schedule(stepped), []
    for _ in range(epochs):
        seen.append([group["lr"] for group in stepped.param_groups])
        stepped.step()
        scheduler.step()
    return [list(column) for column in zip(*seen, strict=True)]


def test_one_cosine_goes_down_and_stays_there():
    (found,) = rates(lambda o: Cosine(o, period=4, eta_min=0.2), 7)
    slope = 0.4 * math.sqrt(0.5)  # half of what lies between 1 and 0.2, at an eighth of a turn
    assert found == pytest.approx([1.0, 0.6 + slope, 0.6, 0.6 - slope, 0.2, 0.2, 0.2])


def test_restarts_begin_at_the_full_rate_again():
    (found,) = rates(lambda o: WarmRestarts(o, period=2, eta_min=0.2), 5)
    assert found == pytest.approx([1.0, 0.6, 1.0, 0.6, 1.0])


def test_a_warm_up_rises_in_equal_steps_and_then_the_schedule_starts():
    (restarts,) = rates(lambda o: WarmRestarts(o, period=2, warmup=3), 7)
    assert restarts == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.5, 1.0, 0.5])
    (cosine,) = rates(lambda o: Cosine(o, period=5, warmup=3), 6)
    assert cosine == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            lambda o: WarmRestarts(o, 20, 1e-6),
            lambda o: CosineAnnealingWarmRestarts(o, T_0=20, eta_min=1e-6),
        ),
        (lambda o: Cosine(o, 30, 1e-6), lambda o: CosineAnnealingLR(o, T_max=30, eta_min=1e-6)),
    ],
)
def test_without_a_warm_up_they_are_torch_s(ours, theirs):
    (one,), (two,) = rates(ours, 30, [5e-4]), rates(theirs, 30, [5e-4])
    assert one == pytest.approx(two, rel=1e-9)


def test_every_group_anneals_from_a_rate_of_its_own():
    fast, slow, low = rates(lambda o: Cosine(o, 2, eta_min=0.1, warmup=0), 3, (1.0, 0.3, 0.01))
    assert fast == pytest.approx([1.0, 0.55, 0.1])
    assert slow == pytest.approx([0.3, 0.2, 0.1])
    assert low == pytest.approx([0.01] * 3)  # it does not rise to the floor


def test_a_schedule_goes_on_where_it_stopped():
    def schedule(o):
        return WarmRestarts(o, period=4, eta_min=0.1, warmup=2)

    (whole,) = rates(schedule, 9)
    stepped = optimizer(1.0)
    before = schedule(stepped)
    for _ in range(5):
        stepped.step()
        before.step()
    after = optimizer(1.0)
    resumed = schedule(after)
    resumed.load_state_dict(before.state_dict())
    after.load_state_dict(stepped.state_dict())
    found = []
    for _ in range(4):
        found.append(after.param_groups[0]["lr"])
        after.step()
        resumed.step()
    assert found == pytest.approx(whole[5:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"period": 0}, r"period=0, wanted a whole number of at least 1"),
        ({"period": 2.5}, r"period=2\.5"),
        ({"period": True}, "period=true"),
        ({"period": 5, "warmup": -1}, "warmup=-1, wanted a whole number of at least 0"),
        ({"period": 5, "warmup": "two"}, "warmup=two"),
        ({"period": 5, "eta_min": -1e-6}, "eta_min=-1e-06"),
        ({"period": 5, "eta_min": math.nan}, "eta_min=nan"),
        ({"period": 5, "warmup": 5}, "warmup=5 leaves nothing of optim.scheduler.period=5"),
    ],
)
def test_what_makes_no_schedule_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Cosine(optimizer(1.0), **options)


def test_a_warm_up_may_be_longer_than_a_restart():
    (found,) = rates(lambda o: WarmRestarts(o, period=1, warmup=3), 5)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


@pytest.mark.parametrize(
    ("words", "kind", "period"),
    [
        (("setting=orion",), WarmRestarts, 20),
        (("setting=orion", "optim=adamw_cosine", "epochs=30"), Cosine, 30),
        (("setting=demo",), WarmRestarts, 24),
        (("setting=demo", "optim=adamw_cosine"), Cosine, 24),
        (("setting=demo", "optim=adamw_cosine", "epochs=7"), Cosine, 7),
    ],
)
def test_the_configured_schedules_are_those_of_the_study(words, kind, period):
    config = compose(*words, "store.path=none.zarr", "optim.scheduler.warmup=1")
    assert config.optim.optimizer.lr == (5e-4 if "orion" in words[0] else 3e-3)
    built = build(config.optim.optimizer)([nn.Parameter(torch.zeros(1))])
    schedule = build(config.optim.scheduler)(built)
    assert type(schedule) is kind
    assert (schedule.period, schedule.eta_min, schedule.warmup) == (period, 1e-6, 1)
