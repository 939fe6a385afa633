"""Two arms on the tissues and seeds that all arms have: difference, tests, effect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isnan, nan

import numpy as np

from tissueseg.metrics.averages import mean_defined
from tissueseg.reporting.permutations import Permuted, permute_runs, permute_units
from tissueseg.reporting.ranking import Comparison, Interval
from tissueseg.reporting.samples import ArmSample, Measure, Parts
from tissueseg.reporting.statistics import (
    Drawing,
    Score,
    Values,
    hedges_g,
    holm,
    interval,
    p_of,
    resample,
    says_something,
    scores,
    sums_by,
)

_TIE = 1e-10  # of the largest score: sums in another order are no difference


def compare(one: ArmSample, other: ArmSample, measure: Measure, drawing: Drawing) -> Comparison:
    """One arm less the other; `p_holm` is `p` until a family corrects it.

    Each permutation takes the other noise as given. Where both count, the larger of their p was below
    .05 in up to 25 % of simulated studies of equal arms; with the interval's own p in at most 7 %. Where
    one of them cannot be made there is no p: one training of each arm says nothing of others.

    Args:
        one: on the common ground of all arms, as is `other`.
        other: than which it may be better.
        measure: what parts are of.
        drawing: of replicates.
    """
    score = measure.score
    sides = [sums_by(sample.parts, sample.clusters) for sample in (one, other)]
    bears = says_something(sides[0], score) | says_something(sides[1], score)
    first, second = (side[:, bears] for side in sides)
    drawn = [resample(side, score, drawing) for side in (first, second)]
    units, runs = permute_units(first, second, score, drawing.seed), Permuted(nan, nan)
    if one.folds == other.folds:
        of_fold = [sums_by(sample.parts, sample.folds) for sample in (one, other)]
        runs = permute_runs(of_fold[0], of_fold[1], score, drawing.seed)
    difference = interval(drawn[0] - drawn[1], drawing.level)
    p_both = p_of(difference)
    p = _largest(units.p, runs.p, p_both)
    by_unit = _by_unit(one.parts, other.parts, score)
    ahead = np.sign(by_unit) * (1 if measure.higher_is_better else -1)
    return Comparison(
        arm=one.arm,
        other=other.arm,
        difference=difference,
        p_units=units.p,
        p_runs=runs.p,
        p=p,
        p_holm=p,
        p_smallest=_largest(units.smallest, runs.smallest),
        effect=hedges_g(_by_unit(first, second, score)),
        wins=float(mean_defined((ahead + 1) / 2)),
        units=int(np.isfinite(ahead).sum()),
        seeds=len(first),
        p_both=p_both,
        untested=_why(units, runs, one.folds == other.folds, measure) if isnan(p) else "",
    )


def not_compared(one: str, other: str, why: str) -> Comparison:
    """A pair of which nothing is known."""
    return Comparison(
        arm=one,
        other=other,
        difference=Interval(nan, nan, nan, nan, nan, "nothing"),
        p_units=nan,
        p_runs=nan,
        p=nan,
        p_holm=nan,
        p_smallest=nan,
        effect=nan,
        wins=nan,
        units=0,
        seeds=0,
        untested=why,
    )


def _why(units: Permuted, runs: Permuted, same_folds: bool, measure: Measure) -> str:
    found, clusters = [], f"{measure.cluster}s"
    if isnan(units.p):
        found.append(
            f"fewer than two {clusters} bear on the score, so nothing can be said of other {clusters}"
        )
    if isnan(runs.p):
        found.append(
            "there is one training of each arm, so nothing can be said of other trainings"
            if same_folds
            else "other folds held out their tissues, so nothing can be said of other trainings"
        )
    return ", and ".join(found) or "their difference has no interval"


def _by_unit(first: Parts, second: Parts, score: Score) -> Values:
    """Differences of what every unit would score alone, mean over seeds: (S, T, *k) -> (T,)."""
    own = scores(score, first), scores(score, second)
    found, scale = mean_defined(own[0] - own[1], 0), np.nanmax(np.abs(own), initial=0)
    return np.where(np.abs(found) <= _TIE * scale, 0.0, found)


def _largest(*p: float) -> float:
    """NaN where one is: what could not be tested is not claimed."""
    return nan if any(map(isnan, p)) else max(p)


def from_the_other_side(pair: Comparison, baseline: str) -> Comparison:
    """The pair with the baseline second, if it has the baseline first."""
    if pair.arm != baseline:
        return pair
    estimate, low, high = pair.difference[:3]
    return replace(
        pair,
        arm=pair.other,
        other=pair.arm,
        difference=pair.difference._replace(estimate=0 - estimate, low=0 - high, high=0 - low),
        effect=0 - pair.effect,
        wins=1 - pair.wins,
    )


def corrected(pairs: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """The family with `p_holm` of its own."""
    family = list(pairs)
    p_holm = holm([pair.p for pair in family])
    return tuple(replace(pair, p_holm=p) for pair, p in zip(family, p_holm, strict=True))
