"""Arms of a study compared: intervals, tests of every pair, and groups that cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import inf, isnan, nan

import numpy as np

from tissueseg.errors import ConfigError
from tissueseg.reporting.common_ground import CommonGround, common_ground
from tissueseg.reporting.pairs import compare, corrected, from_the_other_side, not_compared
from tissueseg.reporting.ranking import ArmResult, Comparison, Interval, Ranking
from tissueseg.reporting.ranking_notes import notes_of_arms, notes_of_pairs
from tissueseg.reporting.samples import ArmSample, Measure
from tissueseg.reporting.statistics import (
    Drawing,
    Score,
    interval,
    resample,
    says_something,
    scores,
    sums_by,
)


def rank(
    samples: Sequence[ArmSample],
    measure: Measure,
    baseline: str | None = None,
    *,
    level: float = 0.95,
    alpha: float = 0.05,
    replicates: int = 2000,
    seed: int = 0,
) -> Ranking:
    """Arms on what all of them have of one measure, best first, whatever order they come in.

    Args:
        samples: one of each arm.
        measure: what parts are of.
        baseline: arm that the others are held against; the first of `samples` if none is named.
        level: nominal coverage of intervals.
        alpha: corrected p below which two arms are told apart.
        replicates: of the bootstrap.
        seed: of everything drawn.

    Raises:
        ConfigError: no arm, no arm of the baseline's name, or no seed or tissue that all arms have.
    """
    names = [sample.arm for sample in samples]
    baseline = _baseline(names, baseline)
    drawing = Drawing(level, replicates, seed)
    ground = common_ground(samples, measure)
    results = [_result(sample, measure.score, drawing) for sample in ground.samples]
    arms = sorted(results, key=lambda result: _place(result, measure))
    order = [result.arm for result in arms]
    pairs = corrected(_pairs(order, ground, measure, drawing))
    held = (from_the_other_side(pair, baseline) for pair in pairs)
    against = corrected(pair for pair in held if pair.other == baseline)
    apart = {(pair.arm, pair.other) for pair in pairs if pair.p_holm < alpha}
    groups = alike([arm for arm in order if arm not in ground.unscored], apart)
    return Ranking(
        measure=measure,
        arms=tuple(replace(arm, letters=_letters(arm.arm, groups)) for arm in arms),
        baseline=baseline,
        against_baseline=against,
        pairs=pairs,
        groups=groups,
        level=level,
        alpha=alpha,
        notes=(*ground.notes, *notes_of_arms(arms, measure), *notes_of_pairs(pairs, alpha)),
    )


def arm_results(
    samples: Sequence[ArmSample],
    measure: Measure,
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> tuple[ArmResult, ...]:
    """Scores with intervals on what all arms have, in their order; see `rank` for the arguments.

    Raises:
        ConfigError: no seed or no tissue that all arms have.
    """
    drawing, ground = Drawing(level, replicates, seed), common_ground(samples, measure)
    return tuple(_result(sample, measure.score, drawing) for sample in ground.samples)


def alike(order: Sequence[str], apart: set[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Largest sets of arms of which no pair was told apart, by their best arm.

    Every arm is in one at least. Being alike is not transitive: an arm may be in several. No arm, no set.

    Args:
        order: arms, the best first.
        apart: pairs told apart, in the order of `order`.
    """
    found: list[tuple[str, ...]] = [()]
    for arm in order:  # largest sets of the arms so far
        joined = [(*(a for a in group if (a, arm) not in apart), arm) for group in found]
        found = list(dict.fromkeys([*found, *joined]))
        found = [group for group in found if not any(set(group) < set(other) for other in found)]
    place = {arm: n for n, arm in enumerate(order)}
    return tuple(sorted(filter(None, found), key=lambda group: [place[arm] for arm in group]))


def _pairs(
    order: Sequence[str], ground: CommonGround, measure: Measure, drawing: Drawing
) -> Iterator[Comparison]:
    """Every pair, the better arm first; of an arm without a score nothing is known."""
    samples = {sample.arm: sample for sample in ground.samples}
    for one, other in combinations(order, 2):
        if without := [arm for arm in (one, other) if arm in ground.unscored]:
            yield not_compared(one, other, f"{without[0]} has no score")
        else:
            yield compare(samples[one], samples[other], measure, drawing)


def _baseline(names: Sequence[str], baseline: str | None) -> str:
    if not names:
        raise ConfigError("Got no arm to rank, wanted one at least. Name runs that have finished.")
    if baseline is not None and baseline not in names:
        raise ConfigError(f"Got baseline={baseline}, which no run is of. Take one of {names}.")
    return names[0] if baseline is None else baseline


def _place(result: ArmResult, measure: Measure) -> tuple[float, str]:
    """Key that sorts the best first, what has no score last, and equals by name."""
    estimate = result.interval.estimate
    return (inf if isnan(estimate) else -_ahead(measure) * estimate, result.arm)


def _ahead(measure: Measure) -> int:
    return 1 if measure.higher_is_better else -1


def _result(sample: ArmSample, score: Score, drawing: Drawing) -> ArmResult:
    by_seed = scores(score, sample.parts.sum(1))
    parts = sample.parts[np.isfinite(by_seed)]
    units = np.zeros(0, np.bool_)
    found = Interval(nan, nan, nan, nan, nan, "nothing")
    if len(parts):
        units = says_something(parts, score)
        sums = sums_by(parts, sample.clusters)
        sums = sums[:, says_something(sums, score)]
        found = interval(resample(sums, score, drawing), drawing.level)
    return ArmResult(sample.arm, found, tuple(by_seed.tolist()), sample.seeds, int(units.sum()))


def _letters(arm: str, groups: Sequence[Sequence[str]]) -> str:
    """One for every group the arm is in: a, b … z, a2, b2 …."""
    named = (chr(97 + n % 26) + (str(n // 26 + 1) if n >= 26 else "") for n in range(len(groups)))
    return "".join(name for name, group in zip(named, groups, strict=True) if arm in group)
