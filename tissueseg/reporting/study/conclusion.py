"""What a comparison comes to, in one sentence that claims no more than its tests do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tissueseg.reporting.pairs import from_the_other_side
from tissueseg.reporting.ranking import ArmResult, Comparison, Interval, Ranking
from tissueseg.reporting.study.words import (
    DASH,
    difference_limits,
    limits_of,
    listed,
    number,
    p_value,
    span,
)


def conclude(ranking: Ranking) -> str:
    """The sentence a report opens with; plain text."""
    on = f"on {ranking.measure.key} ({_data(ranking)})"
    best, *others = ranking.arms
    if not others:
        score = _score(ranking, best.interval)
        return f"{best.arm} scores {score} {on}; there is nothing to compare it with."
    if not any(pair.p < 2 for pair in ranking.pairs):  # NaN: nothing to test on
        return f"Nothing can be said of the {len(ranking.arms)} arms {on}: they share too few runs."
    if len(ranking.groups) == 1:
        return _none(ranking, on)
    leaders = next(group for group in ranking.groups if best.arm in group)
    behind = [arm for arm in others if arm.arm not in leaders]
    apart = ", ".join(_behind(ranking, best, arm) for arm in behind)
    if len(leaders) == 1:
        score = _score(ranking, best.interval)
        return f"{best.arm} is best {on} with {score}; the others less it: {apart}."
    return (
        f"{listed(leaders)} lead {on} and cannot be told apart, {best.arm} with "
        f"{_score(ranking, best.interval)}; those told apart from it, less it: {apart}."
    )


def _p(p: float) -> str:
    """`p .012`, `p < .001`."""
    return f"p {p_value(p)}"


def _none(ranking: Ranking, on: str) -> str:
    best, worst = ranking.arms[0], ranking.arms[-1]
    pair = _pair(ranking, best, worst)
    tested = [pair.p_holm for pair in ranking.pairs if not math.isnan(pair.p_holm)]
    # Where no data of this size could have reached alpha, that is the finding.
    smallest = min(pair.p_smallest for pair in ranking.pairs if not math.isnan(pair.p_smallest))
    blind = smallest * len(tested) >= ranking.alpha
    why = (
        f"; with so few runs no difference could have been told (no p below {number(smallest)})"
        if blind
        else ""
    )
    return (
        f"None of the {len(ranking.arms)} arms can be told apart {on}: the first, {best.arm} "
        f"({number(best.interval.estimate)}), and the last, {worst.arm} "
        f"({number(worst.interval.estimate)}), differ by {_difference(ranking, pair.difference)}; "
        f"smallest Holm {_p(min(tested))}{why}."
    )


def _behind(ranking: Ranking, best: ArmResult, arm: ArmResult) -> str:
    less = from_the_other_side(_pair(ranking, best, arm), best.arm)
    return f"{arm.arm} {_difference(ranking, less.difference)} (Holm {_p(less.p_holm)})"


def _pair(ranking: Ranking, better: ArmResult, arm: ArmResult) -> Comparison:
    return next(p for p in ranking.pairs if {p.arm, p.other} == {better.arm, arm.arm})


def _score(ranking: Ranking, found: Interval) -> str:
    ends = span(found, limits_of(ranking.measure.key))
    return number(found.estimate) + ("" if ends == DASH else f" {ends}")


def _difference(ranking: Ranking, found: Interval) -> str:
    ends = span(found, difference_limits(ranking.measure.key), signed=True)
    return number(found.estimate, signed=True) + ("" if ends == DASH else f" {ends}")


def _data(ranking: Ranking) -> str:
    averaging = ranking.measure.averaging.partition(",")[0].partition(";")[0]
    units = _counted([arm.units for arm in ranking.arms], ranking.measure.unit)
    seeds = _counted([len(arm.seeds) for arm in ranking.arms], "seed")
    return f"{averaging}; {units}, {seeds}"


def _counted(counts: Sequence[int], name: str) -> str:
    """`8 tissues`, or `4 to 8 tissues` where arms have more or fewer."""
    least, most = min(counts), max(counts)
    told = str(most) if least == most else f"{least} to {most}"
    return f"{told} {name}{'' if most == 1 else 's'}"
