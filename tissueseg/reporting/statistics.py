"""Intervals, corrected p and effect sizes of scores that are functions of sums over tissues.

Scores vary with the tissues that happened to be imaged and with the trainings that happened to be run,
and a study has a handful of each. So variances are those of a tissue × seed layout with both random,
intervals are t intervals with few degrees of freedom. Tests are in `permutations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from tissueseg.metrics.averages import mean_defined
from tissueseg.reporting.ranking import Interval
from tissueseg.reporting.samples import Parts

Values = NDArray[np.float64]
Score = Callable[[Parts], Values]

_ROUNDING = 1e-9  # of differences that are alike but for the order of sums


class Drawing(NamedTuple):
    """How replicates are drawn, and how much of them an interval holds."""

    level: float = 0.95
    replicates: int = 2000
    seed: int = 0


class Resampled(NamedTuple):
    """Scores of every seed as they are, and on clusters drawn anew."""

    by_seed: Values  # (S,)
    replicates: Values  # (B, S), the same clusters for every seed; B = 0 where none can be drawn
    clusters: int

    def __sub__(self, other: Resampled) -> Resampled:
        """Differences by seed and by replicate, of arms on the same clusters and seeds."""
        by_seed, replicates = self.by_seed - other.by_seed, self.replicates - other.replicates
        return Resampled(by_seed, replicates, self.clusters)


class _Noise(NamedTuple):
    variance: float  # of the mean over seeds
    df: int


def scores(score: Score, sums: NDArray[Any]) -> Values:
    """Scores of sums (..., *k), NaN without a warning where 0 is divided by 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(score(sums), np.float64)


def sums_by(parts: Parts, names: Sequence[str]) -> Parts:
    """Parts (S, T, *k) summed over units of one name: (S, G, *k), by name."""
    found, group = np.unique(np.asarray(names), return_inverse=True)
    sums = np.zeros((parts.shape[0], len(found), *parts.shape[2:]))
    for n in range(len(found)):
        sums[:, n] = parts[:, group == n].sum(1)
    return sums


def says_something(sums: Parts, score: Score) -> NDArray[np.bool_]:
    """Which clusters bear on the score: (C,).

    A tissue without a cell of a class has no score for it and changes no other's. Counting it would
    promise degrees of freedom that a rare class does not have.

    Args:
        sums: (S, C, *k).
        score: of sums.
    """
    own = np.isfinite(scores(score, sums))
    total = sums.sum(1, keepdims=True)
    changes = scores(score, total - sums) != scores(score, total)
    return (own | changes).any(0)


def resample(sums: Parts, score: Score, drawing: Drawing) -> Resampled:
    """Bootstrap of whole clusters, C - 1 of C with replacement, which makes variances unbiased.

    Weights depend on the number of clusters and the seed only: arms on the same clusters are resampled
    alike, and none depends on which others there are.

    Args:
        sums: (S, C, *k) by cluster.
        score: of sums over clusters, (..., *k) -> (...).
        drawing: B replicates, and the seed of their weights.
    """
    seeds, clusters = sums.shape[:2]
    by_seed = scores(score, sums.sum(1))
    if clusters < 2:
        return Resampled(by_seed, np.empty((0, seeds)), clusters)
    rng = np.random.default_rng((drawing.seed, clusters))
    drawn = rng.multinomial(clusters - 1, np.full(clusters, 1 / clusters), drawing.replicates)
    weights = drawn * (clusters / (clusters - 1))  # sums keep their size
    return Resampled(by_seed, scores(score, np.tensordot(weights, sums, (1, 1))), clusters)


def interval(observed: Resampled, level: float = 0.95) -> Interval:
    """Estimate ± t(ν) · se of the mean over seeds, for other tissues and other trainings.

    V = V_tissues + V_seeds - V_interaction, not below either of the first two, with ν by Satterthwaite
    over all three: the moments of a two-way layout with both factors random (Cameron, Gelbach & Miller
    2011 for the subtraction; Satterthwaite 1946 for ν). The third departs from their clustering by
    cells, which also holds the tissues' own noise and would take it off once too often.

    Measured by `tests/benchmarks/test_coverage.py` (400 studies a setting, nominal .95; 4 to 35 tissues;
    noise mostly of tissues, of seeds, of both; means, pooled Dice, differences): .91 to .99 with 3 or 5
    seeds, .87 to .99 with 2. With one seed the interval cannot hold the noise of trainings: .08 to .96.
    Percentiles over tissues of the mean over seeds: .48 to .94 where noise is of tissues or of both, .06
    to .26 where it is of seeds.

    Not covered: what a fold's training set does to all seeds of an arm alike, which no seed shows. With
    such noise of sd 1 per fold × arm (tissues .3, trainings .5, both .3) intervals of differences hold
    the truth in .66 to .75 of studies, with sd .5 in .81 to .87 (8 to 35 tissues, 2 or 5 folds).
    Intervals of one arm fall short, too, where few tissues decide: .90 to .91 for a class's pooled Dice
    if sizes of tissues have a log-sd of 1.5, .89 for a mean over classes of which one is in 6 % of 35
    tissues.

    Args:
        observed: whose NaN replicates are left out.
        level: nominal coverage.
    """
    seeds, estimate = len(observed.by_seed), float(mean_defined(observed.by_seed))
    noise = [] if isnan(estimate) else _noise_of(observed)
    if not noise:
        return Interval(estimate, nan, nan, nan, nan, "nothing")
    if len(noise) == 1:
        ((variance, df),), covers = noise, "seeds" if seeds > 1 else "tissues"
    else:
        variance, df = _combined(*noise)
        covers = "tissues and seeds"
    se = variance**0.5
    half = float(stdtrit(df, 0.5 + level / 2)) * se
    return Interval(estimate, estimate - half, estimate + half, se, float(df), covers)


def p_of(difference: Interval) -> float:
    """Two-sided p of no difference: below 1 - level where the interval leaves out 0."""
    if isnan(difference.se):
        return nan
    if difference.se == 0:
        return float(difference.estimate == 0)
    return float(2 * stdtr(difference.df, -abs(difference.estimate) / difference.se))


def _noise_of(observed: Resampled) -> list[_Noise]:
    """Of tissues, of seeds and of both together: those that can be known."""
    seeds, noise = len(observed.by_seed), []
    rows = observed.replicates[np.isfinite(observed.replicates).all(1)]
    means = rows.mean(1)
    if len(rows) > 1:
        noise.append(_Noise(float(means.var()), observed.clusters - 1))
    if seeds > 1:
        noise.append(_Noise(float(observed.by_seed.var(ddof=1)) / seeds, seeds - 1))
    if len(noise) == 2:
        apart = (rows - means[:, None]).var(0).sum() / (seeds * (seeds - 1))
        noise.append(_Noise(float(apart), (observed.clusters - 1) * (seeds - 1)))
    return noise


def _combined(tissues: _Noise, seeds: _Noise, both: _Noise) -> tuple[float, float]:
    """Variance of the estimate and its degrees of freedom, at least 1."""
    most = max(tissues.variance, seeds.variance)
    variance = max(tissues.variance + seeds.variance - both.variance, most)
    if variance == 0:
        return 0.0, float(min(tissues.df, seeds.df))
    uncertain = sum((noise.variance / variance) ** 2 / noise.df for noise in (tissues, seeds, both))
    return variance, max(1 / uncertain, 1.0)


def holm(p: Sequence[float]) -> list[float]:
    """Step-down correction (Holm 1979), monotone, at most 1; NaN is outside the family, stays NaN."""
    corrected, worst = [nan] * len(p), 0.0
    family = sorted((value, place) for place, value in enumerate(p) if value == value)
    for rank, (value, place) in enumerate(family):
        worst = max(worst, min(1.0, (len(family) - rank) * value))
        corrected[place] = worst
    return corrected


def hedges_g(differences: Values) -> float:
    """Mean over standard deviation of paired differences, less its bias of small samples.

    Hedges 1981, with 1 - 3 / (4 df - 1), which is 0 for two pairs: NaN there, and without a spread beyond
    that of rounding.

    Args:
        differences: (C,) of clusters; NaN is left out.
    """
    known = differences[np.isfinite(differences)]
    df = len(known) - 1
    if df < 2 or np.ptp(known) <= _ROUNDING * np.abs(known).max():
        return nan
    return float(known.mean() / known.std(ddof=1) * (1 - 3 / (4 * df - 1)))
