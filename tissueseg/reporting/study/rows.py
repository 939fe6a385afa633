"""The tables of a report as plain words, which the page and the Markdown put into their own form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tissueseg.reporting.page_parts import size_of
from tissueseg.reporting.ranking import ArmResult, Comparison
from tissueseg.reporting.study.from_runs import (
    arms_of,
    bins_of,
    runs_of,
    shares_of,
    side_of,
)
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.words import (
    DASH,
    difference_limits,
    limits_of,
    number,
    p_value,
    seconds,
    share,
    span,
)


class Rows(NamedTuple):
    """A table of plain text."""

    header: tuple[str, ...]
    rows: list[list[str]]
    numbers: range  # columns that hold figures


def ranking_rows(report: StudyReport) -> Rows:
    """Arms, the best first, each with its interval and its difference to the baseline."""
    ranking = report.ranking
    against = {c.arm: c for c in ranking.against_baseline}
    header = ("", "arm", "score", "interval", "sd of seeds", "to baseline", "its interval")
    rows = [
        [
            str(rank),
            *_arm_cells(report, result),
            *_comparison_cells(report, against.get(result.arm)),
        ]
        for rank, result in enumerate(ranking.arms, 1)
    ]
    for row, result in zip(rows, ranking.arms, strict=True):
        row.append(result.letters or DASH)
        if result.arm == ranking.baseline:
            row[5] = "baseline"
    more = ("p (Holm)", "effect g", "wins", "group")
    return Rows((*header, *more), rows, range(2, 10))


def comparison_rows(report: StudyReport, pairs: Sequence[Comparison]) -> Rows:
    """Pairs of arms with everything their tests say."""
    limits = difference_limits(report.ranking.measure.key)
    rows = [
        [
            c.arm,
            c.other,
            number(c.difference.estimate, signed=True),
            span(c.difference, limits, signed=True),
            *(p_value(p) for p in (c.p_units, c.p_runs, c.p_both, c.p_holm, c.p_smallest)),
            number(c.effect, signed=True),
            share(c.wins),
            str(c.units),
            str(c.seeds),
        ]
        for c in pairs
    ]
    measure = report.ranking.measure
    units, p_units = f"{measure.unit}s", f"p of {measure.cluster}s"
    header = ("arm", "less", "difference", "interval", p_units, "p of runs", "p of both")
    more = ("p (Holm)", "smallest p", "effect g", "wins", units, "seeds")
    return Rows((*header, *more), rows, range(2, 13))


def matrix_rows(report: StudyReport) -> Rows:
    """Every arm less every other: the difference and its p after Holm."""
    found: dict[tuple[str, str], str] = {}
    for c in report.ranking.pairs:
        for key, way in (((c.arm, c.other), 1), ((c.other, c.arm), -1)):
            told = number(way * c.difference.estimate, signed=True)
            p = f"p {_equals(p_value(c.p_holm))}" if math.isfinite(c.p_holm) else "not tested"
            found[key] = f"{told} ({p})"
    arms = [result.arm for result in report.ranking.arms]
    rows = [[a, *("" if a == b else found.get((a, b), DASH) for b in arms)] for a in arms]
    return Rows(("arm less", *arms), rows, range(1, len(arms) + 1))


def class_rows(report: StudyReport) -> Rows:
    """Every class with the score and interval of every arm."""
    arms = [result.arm for result in report.ranking.arms]
    limits = limits_of(report.ranking.measure.key)
    rows = []
    for name, results in report.by_class.items():
        found = {
            r.arm: f"{number(r.interval.estimate)} {span(r.interval, limits)}" for r in results
        }
        found = {arm: DASH if cell.startswith(DASH) else cell for arm, cell in found.items()}
        rows.append([name, *(found.get(arm, DASH) for arm in arms)])
    return Rows(("class", *arms), rows, range(1, len(arms) + 1))


def share_rows(report: StudyReport) -> Rows:
    """True share of every class and what each arm predicts of it."""
    side = side_of(report)
    found = {arm: shares_of(runs_of(report, arm), side) for arm in arms_of(report)}
    found = {arm: shares for arm, shares in found.items() if shares}
    rows = []
    for name in dict.fromkeys(name for shares in found.values() for name in shares):
        truth = next(shares[name][0] for shares in found.values() if name in shares)
        cells = [_share_cell(shares.get(name)) for shares in found.values()]
        rows.append([name, share(truth), *cells])
    return Rows(("class", "true", *found), rows, range(1, len(found) + 2))


def calibration_rows(report: StudyReport) -> Rows:
    """Calibration errors of every arm that kept them, of pixels and of cells' types."""
    side, rows = side_of(report), []
    for arm in arms_of(report):
        for of in ("pixels", "cells"):
            if found := bins_of(runs_of(report, arm), side, of):
                count = f"{found.counts.sum():,.0f}"
                rows.append([arm, of, count, number(found.ece), number(found.brier)])
    return Rows(("arm", "of", "counted", "ECE", "Brier"), rows, range(2, 5))


def cost_rows(report: StudyReport) -> Rows:
    """What every arm costs; the middle run's time, the largest run's memory, all runs' hours."""
    arms = {arm: [run.cost for run in runs_of(report, arm) if run.cost] for arm in arms_of(report)}
    rows = [[arm, *_cost_cells(costs)] for arm, costs in arms.items()]
    header = ("arm", "runs", "decoder parameters", "trained", "steps", "step", "fit")
    return Rows((*header, "peak memory", "GPU hours, all runs"), rows, range(1, 9))


def _arm_cells(report: StudyReport, result: ArmResult) -> list[str]:
    seeds = [score for score in result.by_seed if math.isfinite(score)]
    sd = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else math.nan
    limits = limits_of(report.ranking.measure.key)
    interval = result.interval
    return [result.arm, number(interval.estimate), span(interval, limits), number(sd)]


def _comparison_cells(report: StudyReport, found: Comparison | None) -> list[str]:
    if found is None:
        return [DASH] * 5
    limits = difference_limits(report.ranking.measure.key)
    told = [number(found.difference.estimate, signed=True), span(found.difference, limits, True)]
    return [*told, p_value(found.p_holm), number(found.effect, signed=True), share(found.wins)]


def _share_cell(shares: tuple[float, float] | None) -> str:
    if shares is None:
        return DASH
    truth, guessed = shares
    return share(guessed) + (f" (×{number(guessed / truth)})" if truth else "")


def _cost_cells(costs: Sequence[Mapping[str, Any]]) -> list[str]:
    peaks = [c for c in costs if c.get("peak_bytes") is not None]
    most = max(peaks, key=lambda c: c["peak_bytes"], default=None)
    peak = DASH if most is None else f"{size_of(most['peak_bytes'])} ({most.get('peak_of', '?')})"
    counts = (
        _folded(costs, key, np.median) for key in ("parameters", "trained_parameters", "steps")
    )
    times = (_folded(costs, key, np.median) for key in ("step_s", "fit_s"))
    hours = _folded(costs, "gpu_hours", np.sum)
    shown = [DASH if math.isnan(n) else f"{n:,.0f}" for n in counts]
    spent = DASH if math.isnan(hours) else f"{hours:.3g}"
    return [str(len(costs)), *shown, *map(seconds, times), peak, spent]


def _folded(costs: Sequence[Mapping[str, Any]], key: str, fold: Callable[..., Any]) -> float:
    values = [float(cost[key]) for cost in costs if cost.get(key) is not None]
    return float(fold(values)) if values else math.nan


def _equals(p: str) -> str:
    """`p` as it stands behind the letter: `= .012`, `< .001`."""
    return p if p.startswith(("<", DASH)) else f"= {p}"
