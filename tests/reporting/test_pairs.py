"""Two arms on the same tissues and seeds, and how often equal ones are told apart."""

import math
from dataclasses import replace

import numpy as np
import pytest
from arms_made import MEAN, arm, noise

from tissueseg.reporting.comparisons import rank
from tissueseg.reporting.records.measured_parts import key_of, score_of
from tissueseg.reporting.samples import Measure


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
    assert math.isfinite(ranking.pairs[0].p_units)
    assert math.isnan(ranking.pairs[0].p)
    assert any("No test of moved and a: other folds held out their" in n for n in ranking.notes)


@pytest.mark.parametrize(("seeds", "tissues"), [(1, 12), (4, 1)])
def test_what_cannot_be_said_of_other_trainings_and_tissues_is_not_claimed(seeds, tissues):
    values, folds = 0.5 + noise(0, seeds, tissues), ("1",) * tissues
    arms = [arm("a", values, folds=folds), arm("b", values + 0.3, folds=folds)]
    (pair,) = rank(arms, MEAN).pairs
    assert math.isnan(pair.p_runs) == (seeds == 1)
    assert math.isnan(pair.p_units) == (tissues == 1)
    assert math.isnan(pair.p)
    assert math.isnan(pair.p_smallest)
    lacking = "other trainings" if seeds == 1 else "other tissues"
    assert pair.untested.endswith(f"nothing can be said of {lacking}")


def test_one_training_on_each_of_two_folds_can_be_tested():
    values = 0.5 + noise(0, 1, 12)
    (pair,) = rank([arm("a", values), arm("b", values + 0.3)], MEAN).pairs
    assert (pair.p_runs, pair.p, pair.untested) == (0.5, 0.5, "")


def test_a_tissue_that_bears_on_one_arm_alone_counts_in_the_pair():
    """A class that only the worse arm sees where it is not."""
    hits = np.random.default_rng(0).uniform(0.6, 0.8, (3, 8))
    parts = np.stack([hits, np.ones_like(hits), np.ones_like(hits)], -1)
    parts[:, 5:] = 0
    false = parts.copy()
    false[:, 5:, 2] = 0.5
    measure = Measure("test/dice/tumor", "pooled", score_of(key_of("test/dice/tumor")))
    found = rank([replace(arm(n, hits), parts=p) for n, p in (("a", parts), ("b", false))], measure)
    (pair,), (best, worst) = found.pairs, found.arms
    assert (best.arm, best.units, worst.units, pair.units) == ("a", 5, 8, 5)
    assert pair.difference.estimate == pytest.approx(
        best.interval.estimate - worst.interval.estimate
    )
    assert pair.difference.df > 3


def test_a_difference_that_is_rounding_is_a_tie_and_has_no_effect():
    values = 0.5 + noise(0)
    one, other = arm("a", values), arm("b", values + 1e-15 * noise(1, size=1))
    (pair,) = rank([one, other], MEAN).pairs
    assert pair.wins == 0.5
    assert math.isnan(pair.effect)


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
