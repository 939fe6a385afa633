"""The order of training tiles: all of them, by seed and epoch alone."""

import random

import numpy as np
import pytest
import torch

from tissueseg.data.sampling import EpochShuffle


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
