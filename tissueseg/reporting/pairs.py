"""Two arms on the tissues and seeds that both have: difference, tests, effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from tissueseg.metrics.averages import mean_defined
from tissueseg.reporting.permutations import Permuted, permute_runs, permute_units
from tissueseg.reporting.ranking import Comparison
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


class _Pair(NamedTuple):
    """Two arms on what both have: parts (S, T, *k) of the same seeds and units."""

    one: Parts
    other: Parts
    units: tuple[str, ...]
    clusters: tuple[str, ...]
    folds: tuple[str, ...] | None  # None: trainings of the two left out different tissues


def _pair(one: ArmSample, other: ArmSample, score: Score) -> _Pair:
    seeds = sorted(set(one.seeds) & set(other.seeds))
    units = tuple(sorted(set(one.units) & set(other.units)))
    ours, theirs = (_of(sample, seeds, units) for sample in (one, other))
    parts = ours.parts, theirs.parts
    scored = np.isfinite([scores(score, side.sum(1)) for side in parts]).all(0)
    # A run copied without its patients names a tissue after itself: the other arm knows better.
    known = zip(ours.clusters, theirs.clusters, units, strict=True)
    clusters = tuple(min({a, b} - {unit}, default=unit) for a, b, unit in known)
    folds = ours.folds if ours.folds == theirs.folds else None
    return _Pair(parts[0][scored], parts[1][scored], units, clusters, folds)


def _of(sample: ArmSample, seeds: Sequence[int], units: Sequence[str]) -> ArmSample:
    rows = [sample.seeds.index(seed) for seed in seeds]
    columns = [sample.units.index(unit) for unit in units]
    return ArmSample(
        sample.arm,
        tuple(seeds),
        tuple(units),
        tuple(sample.clusters[n] for n in columns),
        tuple(sample.folds[n] for n in columns),
        sample.parts[np.ix_(rows, columns)],
    )


def compare(one: ArmSample, other: ArmSample, measure: Measure, drawing: Drawing) -> Comparison:
    """One arm less the other; `p_holm` is `p` until a family corrects it.

    Each permutation takes the other noise as given. Where both count, the larger of their p was below
    .05 in up to 25 % of simulated studies of equal arms; with the interval's own p in at most 7 %.
    """
    score, pair = measure.score, _pair(one, other, measure.score)
    sides = sums_by(pair.one, pair.clusters), sums_by(pair.other, pair.clusters)
    bears = says_something(sides[0], score) | says_something(sides[1], score)
    first, second = (side[:, bears] for side in sides)
    drawn = [resample(side, score, drawing) for side in (first, second)]
    units, runs = permute_units(first, second, score, drawing.seed), Permuted(nan, nan)
    if pair.folds is not None:
        of_fold = sums_by(pair.one, pair.folds), sums_by(pair.other, pair.folds)
        runs = permute_runs(*of_fold, score, drawing.seed)
    difference = interval(drawn[0] - drawn[1], drawing.level)
    p_both = p_of(difference)
    p = _largest(units.p, runs.p, p_both)
    ahead = np.sign(_by_unit(pair.one, pair.other, score)) * (1 if measure.higher_is_better else -1)
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
    )


def _by_unit(first: Parts, second: Parts, score: Score) -> Values:
    """Differences of what every unit would score alone, mean over seeds: (S, T, *k) -> (T,)."""
    return mean_defined(scores(score, first) - scores(score, second), 0)


def _largest(*p: float) -> float:
    return max((value for value in p if not isnan(value)), default=nan)


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
