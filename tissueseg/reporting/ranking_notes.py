"""What a reader of a ranking must know: what intervals do not hold, and what its size cannot show."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from tissueseg.reporting.common_ground import counted, listed
from tissueseg.reporting.ranking import ArmResult, Comparison
from tissueseg.reporting.samples import Measure
from tissueseg.reporting.study.words import p_value

_LIMITED = {
    "tissues": "Intervals of {} hold the noise of {clusters}, not of trainings: there is one seed.",
    "seeds": "Intervals of {} hold the noise of trainings, not of {clusters}: "
    "fewer than two have a score.",
    "nothing": "{} {has} no interval: a single score of one seed and one {cluster}.",
}


def notes_of_arms(arms: Sequence[ArmResult], measure: Measure) -> tuple[str, ...]:
    """What intervals do not hold."""
    scored = [arm for arm in arms if not isnan(arm.interval.estimate)]
    notes, names = [], [arm.arm for arm in scored]
    words = {"cluster": measure.cluster, "clusters": f"{measure.cluster}s"}
    for covers, text in _LIMITED.items():
        limited = [arm.arm for arm in scored if arm.interval.covers == covers]
        if limited:
            has = "has" if len(limited) == 1 else "have"
            said = text.format(_all_or(limited, len(names), "arms"), has=has, **words)
            notes.append(said.replace("all", "All", 1) if said.startswith("all arms ") else said)
    two = [a.arm for a in scored if len(a.seeds) == 2 and a.interval.covers != "nothing"]
    if two:
        notes.append(
            f"Intervals of {_all_or(two, len(names), 'arms')} rest on two seeds: where noise is of "
            "trainings, such intervals of nominal 95 % held the truth in 87 % of simulated studies."
        )
    return tuple(notes)


def notes_of_pairs(pairs: Sequence[Comparison], alpha: float) -> tuple[str, ...]:
    """Tests that could not be made, and tests that could not have succeeded."""
    scored = [pair for pair in pairs if not isnan(pair.difference.estimate)]
    notes, why = [], dict.fromkeys(pair.untested for pair in scored if pair.untested)
    for reason in why:
        untested = [f"{pair.arm} and {pair.other}" for pair in scored if pair.untested == reason]
        named = _all_or(untested, len(scored), "pairs")
        notes.append(f"No test of {named}: {reason}. They count as not told apart.")
    if blind := why_blind(pairs, alpha):
        fewer = ", or compare fewer arms, as in arms=[a,b]" if len(pairs) > 1 else ""
        said = f"No data of this size could tell any pair apart: {blind}."
        notes.append(f"{said} Add seeds, folds or tissues{fewer}.")
    return tuple(notes)


def why_blind(pairs: Sequence[Comparison], alpha: float) -> str:
    """Why no pair of all could have been told apart; empty where one could, or none was tested."""
    tested = [pair for pair in pairs if not isnan(pair.p)]
    smallest = min((pair.p_smallest for pair in tested), default=0.0)
    if smallest * len(tested) < alpha:  # Holm multiplies the smallest of a family by its size
        return ""
    return f"smallest possible p {p_value(smallest)} × {counted(len(tested), 'pair')}"


def _all_or(some: Sequence[str], count: int, what: str) -> str:
    """`all arms` where several are meant without exception, else their names."""
    return f"all {what}" if len(some) == count > 1 else listed(some)
