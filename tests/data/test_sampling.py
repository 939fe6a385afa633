"""The order of training tiles: all of them, by seed and epoch alone."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tissueseg.data.dataset import Pick
from tissueseg.data.sampling import EpochShuffle, ShardShuffle, TrainingPicks
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError

ids = st.lists(st.integers(-3, 12).map(lambda i: i * 1_000_003), max_size=60)


def order(seed=0, epoch=0, count=50):
    sampler = EpochShuffle(range(count), seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_every_item_once(count):
    assert sorted(order(count=count)) == list(range(count))
    assert len(EpochShuffle(range(count), 0)) == count


def test_seed_and_epoch_choose_the_order():
    orders = [order(seed, epoch) for seed in range(4) for epoch in range(4)]
    assert len({tuple(o) for o in orders}) == 16
    assert list(range(50)) not in orders
    assert order(3, 2) == order(3, 2)


def test_what_else_is_drawn_plays_no_part():
    torch.manual_seed(1)
    before = order()
    torch.manual_seed(2)
    random.random()
    np.random.default_rng().random()
    state = torch.random.get_rng_state()
    assert order() == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_same_epoch_can_be_read_twice():
    sampler = EpochShuffle(range(9), 0)
    assert list(sampler) == list(sampler)


def by_shard(shards, seed=0, epoch=0, at_once=4):
    sampler = ShardShuffle(np.array(shards, np.int64), seed, at_once)
    sampler.set_epoch(epoch)
    return list(sampler)


def most_open(shards, indices):
    """Shards between their first and their last item at one time, at most."""
    ids = [shards[i] for i in indices]
    spans = [(ids.index(i), len(ids) - 1 - ids[::-1].index(i)) for i in set(ids)]
    return max((sum(a <= at <= b for a, b in spans) for at in range(len(ids))), default=0)


@given(ids, st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, 6))
def test_shards_are_read_few_at_a_time_and_every_item_once(shards, seed, epoch, at_once):
    indices = by_shard(shards, seed, epoch, at_once)
    assert sorted(indices) == list(range(len(shards)))
    assert most_open(shards, indices) <= at_once
    assert by_shard(shards, seed, epoch, at_once) == indices
    assert len(ShardShuffle(np.array(shards, np.int64), seed, at_once)) == len(shards)


def test_groups_of_shards_are_full_but_for_the_last():
    shards = list(range(10)) * 5
    visited = [shards[i] for i in by_shard(shards)]
    groups = [set(visited[start:stop]) for start, stop in ((0, 20), (20, 40), (40, 50))]
    assert [len(group) for group in groups] == [4, 4, 2]
    assert set.union(*groups) == set(range(10))


def test_seed_and_epoch_choose_the_order_of_shards_and_of_their_items():
    shards = np.repeat(range(12), 6)
    orders = {tuple(by_shard(shards, s, e, at_once=1)) for s in range(4) for e in range(4)}
    of_shards = {tuple(shards[list(order)][::6]) for order in orders}
    within_first = {tuple(i for i in order if shards[i] == 0) for order in orders}
    assert [len(seen) for seen in (orders, of_shards, within_first)] == [16, 16, 16]


def test_shards_meet_others_in_other_epochs():
    shards = list(range(8)) * 4
    partners = {frozenset(shards[i] for i in by_shard(shards, 0, e)[:16]) for e in range(20)}
    assert len(partners) > 5


def test_items_of_a_group_are_shuffled_together():
    """Within a group a shard's items are spread: none of four shards is alone for long."""
    shards = np.repeat(range(4), 250)
    visited = shards[by_shard(shards)]
    for quarter in visited.reshape(4, 250):
        assert np.bincount(quarter, minlength=4).min() > 30


def test_one_group_of_all_shards_is_no_less_mixed_than_a_full_shuffle():
    shards = np.arange(1000) // 10
    first = [by_shard(shards, 0, epoch, at_once=100)[0] for epoch in range(200)]
    assert len(set(first)) > 150
    assert 400 < np.mean(first) < 600


def test_the_global_generator_plays_no_part_in_shard_order():
    before, state = by_shard(range(30)), torch.get_rng_state()
    torch.rand(3)
    assert by_shard(range(30)) == before
    torch.set_rng_state(state)
    by_shard(range(30))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("at_once", [0, -2])
def test_no_shards_at_once_are_refused(at_once):
    with pytest.raises(ConfigError, match=f"at_once={at_once} shards, wanted 1 or more"):
        by_shard([0, 1], at_once=at_once)


def drawn(seed=0, epoch=0, views=Views(8, extra=2), count=50):  # noqa: B008
    sampler = TrainingPicks(EpochShuffle(range(count), seed), views, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_item_is_picked_once_in_the_order_below_and_in_the_view_drawn_for_it():
    views = Views(8, extra=2)
    picks = drawn(3, 2, views)
    assert all(type(pick) is Pick and {*map(type, pick)} == {int} for pick in picks)
    assert [pick.item for pick in picks] == order(3, 2)
    wanted = views.drawn(3, 2, np.arange(50))
    assert [pick.view for pick in picks] == wanted[[pick.item for pick in picks]].tolist()
    assert len(TrainingPicks(EpochShuffle(range(50), 0), views, 0)) == 50
    assert drawn(count=0) == []


def test_seed_and_epoch_choose_views_and_order_too():
    picks = {tuple(drawn(seed, epoch)) for seed in range(3) for epoch in range(3)}
    of_item_7 = [pick.view for found in picks for pick in found if pick.item == 7]
    assert (len(picks), len(of_item_7)) == (9, 9)
    assert len(set(of_item_7)) > 3
    assert drawn(2, 1) == drawn(2, 1)


def test_an_epoch_may_be_drawn_again_and_a_later_one_before():
    sampler = TrainingPicks(EpochShuffle(range(20), 4), Views(4), 4)
    seen = []
    for epoch in (0, 5, 0):
        sampler.set_epoch(epoch)
        seen.append(list(sampler))
    assert seen[0] == seen[2] == drawn(4, 0, Views(4), 20)
    assert seen[1] == drawn(4, 5, Views(4), 20) != seen[0]


def test_without_views_to_draw_from_items_come_as_they_stand():
    assert [pick[:2] for pick in drawn(1, 1, Views())] == [(item, 0) for item in order(1, 1)]


def test_views_are_drawn_on_top_of_an_order_by_shards():
    shards = np.repeat(range(6), 5)
    sampler = TrainingPicks(ShardShuffle(shards, 0, at_once=2), Views(8), 0)
    sampler.set_epoch(3)
    picks = list(sampler)
    assert [pick.item for pick in picks] == by_shard(shards, 0, 3, at_once=2)
    assert len({pick.view for pick in picks}) == 8
