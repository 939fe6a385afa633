"""What a report says in words: how its numbers were made, and what to be careful about."""

from __future__ import annotations

import math

from tissueseg.reporting.ranking import Comparison, Ranking
from tissueseg.reporting.records.comparable import random_parts
from tissueseg.reporting.study.from_runs import arms_of, runs_of
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.words import limits_of, listed, p_value


def method(report: StudyReport) -> list[str]:
    """How scores, intervals and tests were made, a sentence or two each."""
    ranking, told = report.ranking, []
    measure, units, clusters = (
        ranking.measure,
        f"{ranking.measure.unit}s",
        f"{ranking.measure.cluster}s",
    )
    best = "higher" if measure.higher_is_better else "lower"
    told.append(f"Score: {measure.key}, {measure.averaging}; {best} is better.")
    told.append(
        f"Intervals are to hold the truth in {100 * ranking.level:g} % of studies: the estimate ± a "
        f"t quantile times a bootstrap standard error over {clusters}. {_covered(report)} They and "
        "the tests are for these folds' training sets: what a fold's training set does to all seeds of "
        f"an arm alike is not covered.{_cut(measure.key)}"
    )
    if len(ranking.arms) < 2:
        return told
    told.append(
        f"p is the largest of three, so a claim has to hold for other {clusters} and other trainings: of "
        f"a permutation test that exchanges the two arms within {clusters}, of one that exchanges "
        "trainings within folds, and of the interval of the difference, which has both vary at once; "
        "where one of these cannot be made there is no p. It is "
        f"Holm-corrected over the {_counted(ranking.against_baseline, 'comparison')} with "
        f"{ranking.baseline}; in the table of all pairs over its {_counted(ranking.pairs, 'pair')}. "
        "Intervals of differences are not corrected for the number of comparisons. "
        f"{_smallest(ranking)}"
    )
    told.append(
        f"Effect g: mean difference over {clusters} in units of its standard deviation (Hedges). Wins: "
        f"share of {units} where the arm is ahead of the baseline, ties half. Arms that share a letter "
        f"cannot be told apart at {p_value(ranking.alpha)}."
    )
    return told


def cautions(report: StudyReport) -> list[str]:
    """What the reader must know before believing the conclusion."""
    unfinished = [f"Not finished: {run.place}: {run.why}" for run in report.unfinished]
    return list(dict.fromkeys([*report.notes, *report.ranking.notes, *unfinished]))


def random_notes(report: StudyReport) -> list[str]:
    """Which arms ran on encoders that had learnt nothing, and which parts those are."""
    found: dict[tuple[str, ...], list[str]] = {}
    for arm in arms_of(report):
        names = dict.fromkeys(name for run in runs_of(report, arm) for name in random_parts(run))
        if names:
            found.setdefault(tuple(names), []).append(arm)
    every = len(arms_of(report))
    return [
        f"RANDOM ENCODER WEIGHTS: {listed(names)} came from no checkpoint in "
        f"{'all arms' if len(arms) == every else listed(arms)}. "
        "These scores test the machinery; they say nothing about that encoder."
        for names, arms in found.items()
    ]


def _covered(report: StudyReport) -> str:
    """What noise the intervals hold, by arm where they differ."""
    by_cover: dict[str, list[str]] = {}
    for result in report.ranking.arms:
        by_cover.setdefault(result.interval.covers, []).append(result.arm)
    cluster = report.ranking.measure.cluster
    if set(by_cover) == {"nothing"}:
        return f"None is defined: one {cluster} and one seed hold no noise to measure."
    named = {covers.replace("tissue", cluster): arms for covers, arms in by_cover.items()}
    if len(named) == 1:
        return f"They cover the noise of {next(iter(named))}."
    parts = (f"of {covers} for {listed(arms)}" for covers, arms in named.items())
    return f"They cover the noise {'; '.join(parts)}."


def _counted(found: tuple[Comparison, ...], name: str) -> str:
    return f"{len(found)} {name}{'' if len(found) == 1 else 's'}"


def _cut(key: str) -> str:
    return " They are shown cut at 0 and 1." if math.isfinite(limits_of(key)[0]) else ""


def _smallest(ranking: Ranking) -> str:
    """How small p could have become against the baseline, and whether that is enough."""
    alpha = ranking.alpha
    least = [c.p_smallest for c in ranking.against_baseline if math.isfinite(c.p_smallest)]
    if not least:
        return f"No p against {ranking.baseline} is defined."
    lowest, highest = min(least), max(least)
    told = p_value(lowest) if lowest == highest else f"{p_value(lowest)} to {p_value(highest)}"
    text = f"Permutations of data of this size could give no p below {told}, before the correction."
    if lowest * len(least) >= alpha:  # Holm multiplies the smallest of a family by its size
        text += (
            f" So no difference, however large, could come out below {p_value(alpha)} in the comparisons "
            f"with {ranking.baseline}."
        )
    return text
