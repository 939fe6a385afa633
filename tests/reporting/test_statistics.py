"""Intervals that hold the truth as often as they say, and corrections worked by hand."""

import math

import numpy as np
import pytest

from tissueseg.reporting.statistics import (
    Drawing,
    Resampled,
    hedges_g,
    holm,
    interval,
    p_of,
    resample,
    says_something,
    scores,
    sums_by,
)

QUICK = Drawing(replicates=300)


def mean_of(sums):
    """Parts are (sum of values, their number)."""
    return sums[..., 0] / sums[..., 1]


def parts_of(values):
    """Values (S, T), NaN where a tissue has none."""
    values = np.asarray(values, float)
    known = np.isfinite(values)
    return np.stack([np.where(known, values, 0), known.astype(float)], -1)


def study(rng, tissues, seeds, noise=(1.0, 0.5, 0.5), shared=0.0):
    """Values (S, T) of crossed effects of tissue, seed and both, all with mean 0."""
    of_tissue, of_seed, of_both = noise
    return (
        shared
        + of_tissue * rng.standard_normal((1, tissues))
        + of_seed * rng.standard_normal((seeds, 1))
        + of_both * rng.standard_normal((seeds, tissues))
    )


def interval_of(values, drawing=QUICK, clusters=None):
    parts = parts_of(values)
    return interval(
        resample(sums_by(parts, clusters), mean_of, drawing)
        if clusters
        else resample(parts, mean_of, drawing)
    )


@pytest.mark.parametrize(("tissues", "seeds"), [(8, 3), (20, 5)])
def test_intervals_hold_the_truth_as_often_as_they_say(tissues, seeds):
    rng = np.random.default_rng(1)
    found = [interval_of(study(rng, tissues, seeds)) for _ in range(400)]
    assert 0.92 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.99
    assert {i.covers for i in found} == {"tissues and seeds"}


@pytest.mark.parametrize(("tissues", "seeds"), [(8, 3), (20, 5)])
def test_intervals_of_differences_do_too_and_are_narrower_for_what_arms_share(tissues, seeds):
    rng, found, alone = np.random.default_rng(2), [], []
    for _ in range(300):
        shared = 2 * rng.standard_normal((1, tissues))
        arms = [study(rng, tissues, seeds, (0.5, 0.2, 0.3), shared) for _ in range(2)]
        drawn = [resample(parts_of(values), mean_of, QUICK) for values in arms]
        found.append(interval(drawn[0] - drawn[1]))
        alone.append(interval(drawn[0]))
    assert 0.92 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.99
    assert np.mean([p_of(i) < 0.05 for i in found]) <= 0.07
    assert np.median([i.se for i in found]) < 0.6 * np.median([i.se for i in alone])


def test_percentiles_over_tissues_alone_would_not():
    rng, held = np.random.default_rng(1), []
    for _ in range(200):
        means = resample(parts_of(study(rng, 8, 3)), mean_of, QUICK).replicates.mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        held.append(low <= 0 <= high)
    assert np.mean(held) < 0.9


def test_variance_over_tissues_is_that_of_a_mean():
    values = np.random.default_rng(0).standard_normal((1, 6))
    found = interval_of(values, Drawing(replicates=40_000))
    assert found.se == pytest.approx(values.std(ddof=1) / 6**0.5, rel=0.02)
    assert (found.df, found.covers) == (5, "tissues")


def test_seeds_alone_give_the_t_interval_of_their_mean():
    found = interval_of([[0.1], [0.2], [0.3]])
    assert found.estimate == pytest.approx(0.2)
    assert found.se == pytest.approx(0.1 / 3**0.5)
    assert found.high - found.estimate == pytest.approx(4.302653 * 0.1 / 3**0.5)  # t of 2
    assert (found.df, found.covers) == (2, "seeds")


def test_one_seed_on_one_tissue_has_a_score_and_no_interval():
    found = interval_of([[0.4]])
    assert (found.estimate, found.covers) == (0.4, "nothing")
    assert all(map(math.isnan, (found.low, found.high, found.se, found.df)))
    assert math.isnan(p_of(found))


def test_variances_of_tissues_and_seeds_add_up_less_their_interaction():
    rng = np.random.default_rng(3)
    values = study(rng, 6, 4)
    means, residuals = values.mean(0), values - values.mean(0) - values.mean(1, keepdims=True)
    residuals += values.mean()
    parts = means.var(ddof=1) / 6, values.mean(1).var(ddof=1) / 4
    both = (residuals**2).sum() / (5 * 3) / 24
    found = interval_of(values, Drawing(replicates=40_000))
    assert found.se**2 == pytest.approx(parts[0] + parts[1] - both, rel=0.03)
    df = found.se**4 / (parts[0] ** 2 / 5 + parts[1] ** 2 / 3 + both**2 / 15)
    assert found.df == pytest.approx(df, rel=0.05)


def test_variance_and_degrees_of_freedom_are_those_worked_by_hand():
    replicates = np.array([[0.0, 0.0], [0.5, 0.3]])  # means 0 and .4, apart from them 0 and ± .1
    found = interval(Resampled(np.array([0.1, 0.3]), replicates, clusters=5))
    tissues, seeds, both = 0.04, 0.01, 0.0025
    assert found.se**2 == pytest.approx(tissues + seeds - both)
    df = found.se**4 / (tissues**2 / 4 + seeds**2 / 1 + both**2 / 4)
    assert found.df == pytest.approx(df)


def test_an_interval_is_never_narrower_than_that_of_tissues_or_seeds_alone():
    values = np.random.default_rng(0).standard_normal((3, 5))  # nothing but interaction
    found = interval_of(values, Drawing(replicates=20_000))
    assert found.se >= 0.97 * values.mean(0).std(ddof=1) / 5**0.5
    assert found.se >= values.mean(1).std(ddof=1) / 3**0.5
    assert found.df >= 1


def test_a_patients_tissues_are_resampled_whole():
    values = study(np.random.default_rng(0), 7, 3)
    twice, patients = np.repeat(values, 2, axis=1), tuple(np.repeat(list("abcdefg"), 2).tolist())
    assert interval_of(twice, clusters=patients)[:5] == pytest.approx(interval_of(values)[:5])
    assert interval_of(twice[:1]).se < 0.8 * interval_of(values[:1]).se  # were each its own patient


def test_the_same_seed_draws_the_same_and_another_does_not():
    values = study(np.random.default_rng(0), 7, 3)
    assert interval_of(values) == interval_of(values)
    assert interval_of(values) != interval_of(values, Drawing(replicates=300, seed=1))


def test_sums_keep_their_size_when_resampled():
    parts = np.ones((2, 9, 1))
    assert resample(parts, lambda sums: sums[..., 0], QUICK).replicates == pytest.approx(9)


def test_a_pooled_score_is_not_the_mean_over_tissues():
    parts = np.array([[[9.0, 10.0], [0.0, 90.0]]])  # a small tissue of .9, a large one of 0
    assert interval(resample(parts, mean_of, QUICK)).estimate == pytest.approx(0.09)
    assert scores(mean_of, parts).mean() == pytest.approx(0.45)


def test_undefined_replicates_are_left_out():
    replicates = np.array([[0.0, 0.2], [0.2, 0.4], [np.nan, 0.9]])
    found = interval(Resampled(np.array([0.1, 0.3]), replicates, clusters=3))
    assert found.se == pytest.approx(0.02**0.5)  # .01 of seeds, .01 of tissues, no interaction


def test_tissues_without_a_score_promise_no_degrees_of_freedom():
    parts = parts_of([[0.2, math.nan, 0.4, math.nan]] * 2)
    assert says_something(parts, mean_of).tolist() == [True, False, True, False]


def test_a_tissue_that_only_counts_in_the_pool_says_something():
    def recall_less_overlap(sums):  # defined where there are hits; misses count in the pool
        return np.where(sums[..., 0] > 0, sums[..., 0] / (sums[..., 0] + sums[..., 1]), np.nan)

    parts = np.array([[[4.0, 1.0], [0.0, 5.0], [0.0, 0.0]]])
    assert says_something(parts, recall_less_overlap).tolist() == [True, True, False]


def test_holm_steps_down_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_was_not_tested():
    corrected = holm([0.02, math.nan, 0.04])
    assert (corrected[0], corrected[2]) == pytest.approx((0.04, 0.04))
    assert math.isnan(corrected[1])


def test_hedges_g_of_five_pairs():
    differences = np.array([1.0, 2.0, 3.0, 4.0, 5.0, math.nan])
    assert hedges_g(differences) == pytest.approx(3 / 2.5**0.5 * (1 - 3 / 15))
    assert hedges_g(-differences) == pytest.approx(-hedges_g(differences))


@pytest.mark.parametrize(
    "differences", [[], [0.1], [0.1, 0.2], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1 + 1e-16, 0.3 - 0.2]]
)
def test_hedges_g_is_undefined_of_two_pairs_and_without_spread(differences):
    assert math.isnan(hedges_g(np.array(differences)))


def test_p_of_a_difference_is_at_alpha_where_its_interval_ends_at_nothing():
    assert p_of(interval_of([[0.0], [0.0]])) == 1
    assert p_of(interval_of([[0.1], [0.1]])) == 0
    seeds = np.array([[0.1], [0.2], [0.3]])
    found = interval_of(seeds)
    edge = interval_of(seeds - found.low)
    assert p_of(edge) == pytest.approx(0.05)
