"""Cycles of permutations, against following them."""

from itertools import chain

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.instances.cycles import cycles, members


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(40)), st.integers(0, 2**32))
def test_equals_following_each_cycle(following, seed):
    found = cycles(np.array(following))
    rng = np.random.default_rng(seed)
    kept = rng.random(40) < 0.5
    walked = []
    for first in range(40):
        cycle, at = [first], following[first]
        while at != first:
            cycle.append(at)
            at = following[at]
        if min(cycle) == first:
            walked.append(cycle)
            assert found.lowest[found.cycle[cycle]].tolist() == [first] * len(cycle)
            assert found.place[cycle].tolist() == list(range(len(cycle)))
    order = rng.permutation(len(walked))
    wanted = [[at for at in walked[i] if kept[at]] for i in order]
    listed, counts = members(found, order, kept)
    assert listed.tolist() == list(chain(*wanted))
    assert counts.tolist() == [len(cycle) for cycle in wanted]


def test_one_long_cycle():
    n = 5000
    found = cycles(np.roll(np.arange(n), -1))
    assert not found.cycle.any()
    assert found.place.tolist() == list(range(n))


def test_nothing_has_no_cycles():
    found = cycles(np.zeros(0, int))
    assert len(found.lowest) == len(found.place) == 0
