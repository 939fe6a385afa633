"""Two arms on what both have, and how often equal ones are told apart."""

import math

import numpy as np
import pytest
from arms_made import MEAN, arm, noise

from tissueseg.reporting.comparisons import rank


def test_pairs_are_compared_on_the_tissues_and_seeds_both_have():
    tissues = np.linspace(0.2, 0.8, 8)
    short = arm("short", (tissues + noise(0, 3, 8))[1:, :6], seeds=(1, 2))
    ranking = rank([arm("long", tissues + 0.1 + noise(0, 3, 8)), short], MEAN)
    (pair,) = ranking.pairs
    assert (pair.units, pair.seeds) == (6, 2)
    assert pair.difference.estimate == pytest.approx(0.1)  # what is left out would have made it .2
    assert any("short has no seed 0 and no scores of t06, t07" in note for note in ranking.notes)


def test_tissues_without_score_count_neither_as_units_nor_as_wins():
    values = 0.5 + noise(0)
    values[:, [2, 3]] = np.nan
    ranking = rank([arm("a", values), arm("b", values - 0.1)], MEAN)
    assert ranking.arms[0].units == 10
    assert (ranking.pairs[0].units, ranking.pairs[0].wins) == (10, 1)


def test_trainings_on_other_folds_are_not_exchanged():
    values = 0.5 + noise(0)
    moved = arm("moved", values + 0.1, folds=("0",) * 6 + ("1",) * 6)
    ranking = rank([arm("a", values), moved], MEAN)
    assert math.isnan(ranking.pairs[0].p_runs)
    assert math.isfinite(ranking.pairs[0].p)
    assert any("Other folds held out the tissues of moved and a" in n for n in ranking.notes)


def test_patients_that_one_arm_knows_hold_for_the_pair():
    values, patients = 0.5 + noise(0, 3, 6), tuple("ppqqrr")
    known = arm("known", values + noise(1, 3, 6), clusters=patients)
    ranking = rank([arm("unknown", values), known], MEAN)
    assert ranking.pairs[0].p_smallest == 2 / 8  # three patients, not six tissues


def test_p_is_the_largest_and_an_interval_over_zero_is_never_told_apart():
    rng = np.random.default_rng(0)
    for _ in range(20):
        of_seeds = [0.02 * rng.standard_normal((3, 1)) for _ in range(2)]
        both = [arm(n, 0.5 + s + noise(0, 3, 8)) for n, s in zip("ab", of_seeds, strict=True)]
        (pair,) = rank(both, MEAN, replicates=300).pairs
        assert pair.p == max(pair.p_units, pair.p_runs, pair.p_both)
        assert (pair.p_both < 0.05) == (pair.difference.low > 0)


def test_equal_arms_are_rarely_told_apart_where_tissues_and_trainings_both_vary():
    rng, found = np.random.default_rng(0), []
    for _ in range(150):
        arms = [
            arm(
                name,
                0.5 * rng.standard_normal((1, 8))
                + 0.3 * rng.standard_normal((3, 1))
                + 0.3 * rng.standard_normal((3, 8)),
            )
            for name in "ab"
        ]
        (pair,) = rank(arms, MEAN, replicates=300).pairs
        found.append((pair.p, max(pair.p_units, pair.p_runs)))
    alarms = (np.array(found) < 0.05).mean(0)
    assert alarms[0] <= 0.07
    assert alarms[1] > alarms[0]  # why the interval has a say
