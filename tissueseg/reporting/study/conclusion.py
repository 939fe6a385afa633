"""What a comparison comes to, in one sentence that claims no more than its tests do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan

from tissueseg.reporting.common_ground import counted
from tissueseg.reporting.pairs import from_the_other_side
from tissueseg.reporting.ranking import ArmResult, Comparison, Interval, Ranking
from tissueseg.reporting.ranking_notes import why_blind
from tissueseg.reporting.study.words import (
    DASH,
    difference_limits,
    limits_of,
    listed,
    number,
    p_value,
    span,
)

_PAIRS = 3  # told apart behind the first, that are named


def conclude(ranking: Ranking) -> str:
    """The sentence a report opens with; plain text."""
    scored = [arm for arm in ranking.arms if not isnan(arm.interval.estimate)]
    if not scored:
        return f"No arm has a score on {ranking.measure.key}."
    on = f"on {ranking.measure.key} ({_data(ranking, scored)})"
    return f"{''.join(_clauses(ranking, scored, on))}{_unscored(ranking)}."


def _clauses(ranking: Ranking, scored: Sequence[ArmResult], on: str) -> Iterator[str]:
    best, *others = scored
    if not others:
        yield f"{best.arm} scores {_score(ranking, best)} {on}; there is nothing to compare it with"
    elif all(isnan(pair.p) for pair in ranking.pairs):
        why = next(pair.untested for pair in ranking.pairs if not isnan(pair.difference.estimate))
        yield f"Nothing can be said of the {len(scored)} arms {on}: {why}"
    elif not any(pair.p_holm < ranking.alpha for pair in ranking.pairs):
        yield _none(ranking, scored, on)
        yield _held_against_baseline(ranking)
    else:
        yield from _leaders(ranking, scored, on)


def _none(ranking: Ranking, scored: Sequence[ArmResult], on: str) -> str:
    best, worst = scored[0], scored[-1]
    difference = _difference(ranking, _less(ranking, best, worst).difference)
    smallest = min(pair.p_holm for pair in ranking.pairs if not isnan(pair.p_holm))
    # Where no data of this size could have reached alpha, that is the finding.
    blind = why_blind(ranking.pairs, ranking.alpha)
    why = f"; no pair of {len(scored)} arms could have been told apart: {blind}" if blind else ""
    return (
        f"None of the {len(scored)} arms can be told apart {on}: the first, {best.arm} "
        f"({number(best.interval.estimate)}), and the last, {worst.arm} "
        f"({number(worst.interval.estimate)}), differ by {difference}; smallest Holm {_p(smallest)}{why}"
    )


def _leaders(ranking: Ranking, scored: Sequence[ArmResult], on: str) -> Iterator[str]:
    """The first, those that its own pairs do not tell apart from it, and those that they do."""
    best, *others = scored
    pairs = {arm.arm: _less(ranking, arm, best) for arm in others}
    behind = [arm for arm, pair in pairs.items() if pair.p_holm < ranking.alpha]
    untested = [arm for arm, pair in pairs.items() if isnan(pair.p_holm)]
    alike = [arm for arm in pairs if arm not in behind and arm not in untested]
    less = ", ".join(_told(ranking, pairs[arm], "Holm ") for arm in behind)
    if not alike and not untested:
        yield f"{best.arm} is best {on} with {_score(ranking, best)}; the others less it: {less}"
        return
    if alike:
        yield f"{listed([best.arm, *alike])} lead {on}: {listed(alike)} cannot be told apart from "
        yield f"{best.arm}, which has {_score(ranking, best)}"
    else:
        yield f"{best.arm} comes first {on} with {_score(ranking, best)}"
    yield f"; those told apart from it, less it: {less}" if behind else _elsewhere(ranking)
    if untested:
        why = pairs[untested[0]].untested
        yield f"; not tested against it: {listed(untested)}, for {why}"
    yield _held_against_baseline(ranking)


def _elsewhere(ranking: Ranking) -> str:
    """Pairs told apart of which neither is the first."""
    apart = [pair for pair in ranking.pairs if pair.p_holm < ranking.alpha]
    named = [f"{pair.arm} less {_of(ranking, pair, pair.other, 'Holm ')}" for pair in apart]
    more = f" and {len(apart) - _PAIRS} more" if len(apart) > _PAIRS else ""
    return f"; told apart from each other: {', '.join(named[:_PAIRS])}{more}"


def _held_against_baseline(ranking: Ranking) -> str:
    """What the baseline's own family tells apart and that of all pairs does not."""
    alpha, family = ranking.alpha, ranking.against_baseline
    apart = {frozenset((p.arm, p.other)) for p in ranking.pairs if p.p_holm < alpha}
    found = [c for c in family if c.p_holm < alpha and frozenset((c.arm, c.other)) not in apart]
    if not found:
        return ""
    tested = sum(not isnan(c.p) for c in family)
    said = ", ".join(_told(ranking, c) for c in found)
    return f"; held against {ranking.baseline} alone (Holm over {tested}): {said}"


def _unscored(ranking: Ranking) -> str:
    names = [arm.arm for arm in ranking.arms if isnan(arm.interval.estimate)]
    return f"; {listed(names)} {'has' if len(names) == 1 else 'have'} no score" if names else ""


def _less(ranking: Ranking, arm: ArmResult, other: ArmResult) -> Comparison:
    """An arm less another."""
    names = {arm.arm, other.arm}
    pair = next(pair for pair in ranking.pairs if {pair.arm, pair.other} == names)
    return from_the_other_side(pair, other.arm)


def _told(ranking: Ranking, pair: Comparison, correction: str = "") -> str:
    return _of(ranking, pair, pair.arm, correction)


def _of(ranking: Ranking, pair: Comparison, name: str, correction: str) -> str:
    """`a −.049 [−.060, −.038] (Holm p .012)`."""
    return f"{name} {_difference(ranking, pair.difference)} ({correction}{_p(pair.p_holm)})"


def _p(p: float) -> str:
    """`p .012`, `p < .001`."""
    return f"p {p_value(p)}"


def _score(ranking: Ranking, arm: ArmResult) -> str:
    ends = span(arm.interval, limits_of(ranking.measure.key))
    return number(arm.interval.estimate) + ("" if ends == DASH else f" {ends}")


def _difference(ranking: Ranking, found: Interval) -> str:
    ends = span(found, difference_limits(ranking.measure.key), signed=True)
    return number(found.estimate, signed=True) + ("" if ends == DASH else f" {ends}")


def _data(ranking: Ranking, scored: Sequence[ArmResult]) -> str:
    averaging = ranking.measure.averaging.partition(",")[0].partition(";")[0]
    units = _counted([arm.units for arm in scored], ranking.measure.unit)
    return f"{averaging}; {units}, {counted(len(scored[0].seeds), 'seed')}"


def _counted(counts: Sequence[int], name: str) -> str:
    """`8 tissues`, or `4 to 8 tissues` where more or fewer bear on the scores of some arms."""
    least, most = min(counts), max(counts)
    return counted(most, name) if least == most else f"{least} to {counted(most, name)}"
