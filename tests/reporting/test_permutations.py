"""Tests whose p can be counted by hand, and how often they err."""

import math

import numpy as np
import pytest

from tissueseg.reporting.permutations import ARRANGEMENTS, permute_runs, permute_units


def mean_of(sums):
    return sums[..., 0] / sums[..., 1]


def parts_of(values):
    values = np.asarray(values, float)
    return np.stack([values, np.ones_like(values)], -1)


def test_three_tissues_cannot_give_less_than_a_quarter():
    found = permute_units(parts_of([[3, 5, 9]]), parts_of([[1, 2, 3]]), mean_of, 0)
    assert found == (0.25, 0.25)  # all three one way, or all the other: 2 of 8


def test_p_of_tissues_counts_every_arrangement_as_extreme():
    first, second = parts_of([[3, 5, 1]]), parts_of([[1, 2, 3]])  # differences 2, 3, -2
    # |± 2 ± 3 ± 2| is 3 as observed or more where the sum is 3 or 7: 3 of 4 halves
    assert permute_units(first, second, mean_of, 0).p == 0.75


def test_equal_arms_have_p_of_one():
    same = parts_of(np.random.default_rng(0).standard_normal((3, 6)))
    assert permute_units(same, same, mean_of, 0).p == 1
    assert permute_runs(same, same, mean_of, 0).p == 1


def test_what_is_swapped_is_pooled_again():
    first = np.array([[[9.0, 10.0], [100.0, 1000.0], [8.0, 10.0]]])
    second = np.array([[[1.0, 10.0], [120.0, 1000.0], [2.0, 10.0]]])
    # Two of three tissues favour the first arm by far, the pool the second: differences of hits are
    # 8, -20, 6 on equal areas, the observed |-6| the least there is.
    assert permute_units(first, second, mean_of, 0).p == 1
    mean_over_tissues = parts_of(mean_of(first)), parts_of(mean_of(second))
    assert permute_units(*mean_over_tissues, mean_of, 0).p == 0.5


def test_trainings_of_one_fold_are_relabelled_in_all_ways():
    first, second = parts_of([[7], [8], [9]]), parts_of([[1], [2], [3]])
    found = permute_runs(first, second, mean_of, 0)
    assert found == (pytest.approx(2 / 20), pytest.approx(2 / 20))


def test_folds_are_relabelled_apart():
    first, second = parts_of([[7, 1], [8, 2]]), parts_of([[1, 7], [2, 8]])
    # One fold favours each arm alike: nothing is left of the difference, every arrangement is as far.
    assert permute_runs(first, second, mean_of, 0).p == 1
    assert permute_runs(first, second, mean_of, 0).smallest == pytest.approx(2 / 36)


def test_one_seed_on_two_folds_can_be_relabelled():
    found = permute_runs(parts_of([[7, 8]]), parts_of([[1, 2]]), mean_of, 0)
    assert found == (0.5, 0.5)


def test_sums_in_another_order_are_ties():
    """Swapping all is as extreme as swapping none, whatever digits are lost on the way."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        some, other = 2 + rng.random((1, 3)), rng.random((1, 3))
        assert permute_units(parts_of(some), parts_of(other), mean_of, 0).p == 0.25
        assert permute_runs(parts_of(some.T), parts_of(other.T), mean_of, 0).p == pytest.approx(0.1)


def test_seed_and_fold_of_one_training_cannot_be_tested():
    one = parts_of([[1.0]])
    assert all(map(math.isnan, permute_units(one, one, mean_of, 0)))
    assert all(map(math.isnan, permute_runs(one, one, mean_of, 0)))


def test_too_many_arrangements_are_drawn_and_the_first_is_counted():
    first, second = parts_of(np.full((5, 40), 2.0)), parts_of(np.full((5, 40), 1.0))
    assert permute_units(first, second, mean_of, 0) == (1 / (1 + ARRANGEMENTS),) * 2
    assert permute_runs(first, second, mean_of, 0) == (1 / (1 + ARRANGEMENTS),) * 2


def test_drawn_arrangements_agree_with_counted_ones():
    rng = np.random.default_rng(0)
    some, other = rng.standard_normal((2, 1, 13))
    counted = permute_units(parts_of(some), parts_of(other), mean_of, 0).p
    # a tissue on which the arms are equal changes no difference, only the number of arrangements
    more = [np.concatenate([x, np.zeros((1, 1))], 1) for x in (some, other)]
    drawn = permute_units(*map(parts_of, more), mean_of, 0).p
    assert 0.02 < counted < 0.98
    assert drawn == pytest.approx(counted, abs=0.02)


def test_an_undefined_difference_is_not_tested():
    nothing = np.zeros((2, 3, 2))
    assert math.isnan(permute_units(nothing, nothing, mean_of, 0).p)
    assert math.isnan(permute_runs(nothing, nothing, mean_of, 0).p)


@pytest.mark.parametrize("test", [permute_units, permute_runs])
def test_equal_arms_are_rarely_below_alpha(test):
    """Noise of what is permuted only: every cell its own."""
    rng = np.random.default_rng(0)
    p = [
        test(
            *map(parts_of, rng.standard_normal((2, 3, 2 if test is permute_runs else 6))),
            mean_of,
            0,
        ).p
        for _ in range(300)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.07
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.1)
