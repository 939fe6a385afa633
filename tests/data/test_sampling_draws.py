"""What is drawn for every item, with replacement or not, and how ranks share an epoch."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tissueseg.data.sampling import (
    EpochShuffle,
    Rank,
    ScoredTiles,
    TrainingPicks,
    WeightedOrder,
    occurrences,
)
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError

VIEWS = Views(8, extra=2)


def shuffled(count: int = 50, seed: int = 0) -> EpochShuffle:
    return EpochShuffle(range(count), seed)


def weighted(count: int = 50, seed: int = 0) -> WeightedOrder:
    return WeightedOrder(np.linspace(0.1, 1, count), seed)


ORDERS = {"shuffled": shuffled, "weighted": weighted}


def epoch_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


@given(st.lists(st.integers(0, 9), max_size=40))
def test_occurrences_are_how_often_an_item_came_before(items):
    wanted = [items[:i].count(item) for i, item in enumerate(items)]
    assert occurrences(np.array(items, np.int64)).tolist() == wanted


@pytest.mark.parametrize("weights", [[1, 2, 3, 4], [0, 1, 0, 3, 0], [5.0], [0.2, 0, 0]])
def test_items_come_as_often_as_they_weigh(weights):
    counts = Counter()
    sampler = WeightedOrder(np.array(weights, float), seed=1)
    for epoch in range(4000):
        counts.update(epoch_of(sampler, epoch))
        assert len(sampler) == len(weights)
    total = sum(counts.values())
    assert total == 4000 * len(weights)
    for item, weight in enumerate(weights):
        share = weight / sum(weights)
        assert counts[item] == pytest.approx(total * share, abs=5 * (total * share) ** 0.5)


def test_what_weighs_nothing_is_never_drawn_wherever_the_number_falls(monkeypatch):
    for drawn in (0.0, 0.5, 1 - 2**-53):
        monkeypatch.setattr(
            torch, "rand", lambda n, drawn=drawn, **_: torch.full((n,), drawn).double()
        )
        found = set(WeightedOrder(np.array([0, 0.1, 0, 0.2, 0.7, 0]), 0))
        assert found == {{0.0: 1, 0.5: 4}.get(drawn, 4)}


@pytest.mark.parametrize("make", ORDERS.values(), ids=ORDERS)
def test_seed_and_epoch_choose_what_is_drawn_and_nothing_else_does(make):
    before = epoch_of(TrainingPicks(make(), VIEWS, 0), 3)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    sampler = TrainingPicks(make(), VIEWS, 0)
    assert epoch_of(sampler, 2) != before
    assert epoch_of(sampler, 3) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert epoch_of(TrainingPicks(make(seed=1), VIEWS, 1), 3) != before


def test_draws_are_63_bits_of_their_own():
    """No two of 20000 agree, all bits are used, and they tell nothing of the views."""
    picks = epoch_of(TrainingPicks(EpochShuffle(range(20_000), 0), Views(8), 0))
    draws = np.array([pick.draw for pick in picks])
    assert len(set(draws.tolist())) == len(draws)
    bits = draws[:, None] >> np.arange(63) & 1
    assert abs(bits.mean(axis=0) - 0.5).max() < 0.02
    assert (draws >= 0).all()
    views = np.array([pick.view for pick in picks])
    met = np.histogram2d(views, draws >> 60, (8, 8))[0]
    assert abs(met - len(picks) / 64).max() < 5 * (len(picks) / 64) ** 0.5


def test_an_item_draws_the_same_wherever_it_stands():
    one, other = (epoch_of(TrainingPicks(shuffled(seed=s), VIEWS, 7), 4) for s in (0, 1))
    assert one != other
    assert sorted(one) == sorted(other)


def test_an_item_that_comes_again_draws_anew():
    picks = epoch_of(TrainingPicks(weighted(400), VIEWS, 0), 1)
    items = np.array([pick.item for pick in picks])
    times = occurrences(items)
    assert times.max() >= 3
    assert len({pick.draw for pick in picks}) == len(picks)
    wanted = VIEWS.drawn(0, 1, items + 400 * times)
    assert [pick.view for pick in picks] == wanted.tolist()
    once = {pick.item: pick for pick in epoch_of(TrainingPicks(shuffled(400), VIEWS, 0), 1)}
    first = [pick for pick, time in zip(picks, times, strict=True) if time == 0]
    assert [once[pick.item] for pick in first] == first


@pytest.mark.parametrize("make", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("world", [1, 2, 3, 7, 50])
def test_ranks_share_an_epoch_evenly_and_without_overlap(make, world):
    whole = epoch_of(TrainingPicks(make(), VIEWS, 0), 2)
    samplers = [TrainingPicks(make(), VIEWS, 0, Rank(r, world)) for r in range(world)]
    parts = [epoch_of(sampler, 2) for sampler in samplers]
    assert {len(part) for part in parts} == {len(s) for s in samplers} == {50 // world}
    together = [pick for step in zip(*parts, strict=True) for pick in step]
    assert together == whole[: 50 // world * world]


def test_what_is_left_out_is_another_in_the_next_epoch():
    samplers = [TrainingPicks(shuffled(11), VIEWS, 0, Rank(rank, 4)) for rank in range(4)]
    left = []
    for epoch in range(6):
        seen = {pick.item for sampler in samplers for pick in epoch_of(sampler, epoch)}
        assert len(seen) == 8
        left.append(frozenset(range(11)) - seen)
    assert len(set(left)) > 3


@pytest.mark.parametrize("batch_size", [1, 3, 4, 99])
@pytest.mark.parametrize(("count", "world"), [(0, 1), (10, 1), (10, 2), (10, 3), (3, 3), (31, 4)])
def test_scored_items_are_each_on_one_rank(count, world, batch_size):
    samplers = [ScoredTiles(range(count), Rank(rank, world), batch_size) for rank in range(world)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
    assert sorted(item for part in parts for item in part) == list(range(count))
    assert all(parts) or count == 0
    (taken,) = {sampler.batch_size for sampler in samplers}
    assert max(map(len, parts)) - min(map(len, parts)) <= taken <= batch_size


def test_ranks_score_the_batches_of_one_process():
    samplers = [ScoredTiles(range(10), Rank(rank, 2), 4) for rank in range(2)]
    assert [list(sampler) for sampler in samplers] == [[0, 1, 2, 3, 8, 9], [4, 5, 6, 7]]
    assert [sampler.batch_size for sampler in samplers] == [4, 4]


def test_more_ranks_than_items_are_refused():
    with pytest.raises(
        ConfigError, match="3 training tiles cannot feed 4 processes: lower trainer"
    ):
        TrainingPicks(shuffled(3), VIEWS, 0, Rank(1, 4))
    with pytest.raises(ConfigError, match="3 scored tiles cannot feed 4 processes: lower trainer"):
        ScoredTiles(range(3), Rank(3, 4), 1)


def test_the_order_of_an_epoch_takes_few_bytes_a_tile():
    tiles = 200_000
    tracemalloc.start()
    try:
        next(iter(TrainingPicks(EpochShuffle(range(tiles), 0), Views(), 0)))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 24 * tiles  # and 8 that torch allocates, which is not traced
