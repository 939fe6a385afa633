from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tissueseg.metrics import matching
from tissueseg.metrics.matching import heaviest_matching


def make_graph(seed, n=5, m=5, density=0.4, levels=None):
    rng = np.random.default_rng(seed)
    left, right = np.nonzero(rng.random((n, m)) < density)
    weight = rng.random(len(left)) + 1e-3
    return left, right, np.ceil(weight * levels) if levels else weight


def is_matching(left, right, chosen):
    return all(len(set(node[chosen])) == len(chosen) for node in (left, right))


def heaviest_by_trying(left, right, weight):
    sets = (c for k in range(6) for c in combinations(range(len(weight)), k))
    return max(weight[list(c)].sum() for c in sets if is_matching(left, right, list(c)))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**16), levels=st.sampled_from([None, 1, 3]))
def test_no_other_matching_is_heavier(seed, levels):
    left, right, weight = make_graph(seed, 5, 4, levels=levels)
    chosen = heaviest_matching(left, right, weight)
    assert is_matching(left, right, chosen)
    assert weight[chosen].sum() == pytest.approx(heaviest_by_trying(left, right, weight))


@pytest.mark.parametrize("dense_cells", [0, 10**9])
@pytest.mark.parametrize("levels", [None, 2])
def test_large_components_are_as_heavy_without_a_matrix(dense_cells, levels, monkeypatch):
    monkeypatch.setattr(matching, "_DENSE_CELLS", dense_cells)
    for seed in range(5):
        left, right, weight = make_graph(seed, 40, 60, 0.1, levels)
        matrix = np.zeros((40, 60))
        matrix[left, right] = weight
        best = matrix[linear_sum_assignment(matrix, maximize=True)].sum()
        chosen = heaviest_matching(left, right, weight)
        assert is_matching(left, right, chosen)
        assert weight[chosen].sum() == pytest.approx(best)


def test_the_best_single_pair_may_have_to_give_way():
    left, right, weight = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.51, 0.3, 0.3])
    assert heaviest_matching(left, right, weight).tolist() == [1, 2]


def test_without_pairs_nothing_is_chosen():
    nothing = np.zeros(0, np.int64)
    assert heaviest_matching(nothing, nothing, np.zeros(0)).tolist() == []


def test_long_chains_are_solved():
    step = np.arange(
        200
    )  # l0 - r0 - l1 - r1 …: a weight above the last but not above both neighbours
    left, right, weight = (step + 1) // 2, step // 2, np.linspace(1, 2, 200)
    chosen = heaviest_matching(left, right, weight)
    assert chosen.tolist() == list(range(1, 200, 2))
