"""From finished runs to everything a report says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tissueseg.errors import ConfigError
from tissueseg.reporting.comparisons import arm_results, rank
from tissueseg.reporting.ranking import ArmResult, Ranking
from tissueseg.reporting.records.arms import by_arm, with_arms
from tissueseg.reporting.records.comparable import check_comparable
from tissueseg.reporting.records.measures import find_measure, samples
from tissueseg.reporting.records.run_record import RunRecord, Unfinished
from tissueseg.reporting.study.conclusion import conclude
from tissueseg.reporting.study.report import StudyReport

METRIC = "test/dice/macro_foreground"
"""What arms are ranked by where nobody says otherwise."""


@dataclass(frozen=True)
class Wanted:
    """What is compared, and how; None: as the study says."""

    metric: str | None = None
    baseline: str | None = None
    arms: Sequence[str] | None = None  # these alone
    title: str | None = None
    level: float = 0.95  # of intervals
    alpha: float = 0.05  # of tests
    replicates: int = 2000
    seed: int = 0


def compare(
    records: Sequence[RunRecord], unfinished: Sequence[Unfinished], wanted: Wanted, command: str
) -> StudyReport:
    """Rank the arms of some runs.

    Args:
        records: finished runs, as read.
        unfinished: those that left no scores.
        wanted: what is compared.
        command: that asks for it.

    Raises:
        ConfigError: a metric, baseline or arm that no run has, or runs that cannot be compared.
    """
    runs = _chosen(with_arms(records), wanted.arms)
    cautions = check_comparable(runs)
    measure = find_measure(wanted.metric or _said(runs, "protocol.metric") or METRIC, runs)
    found, notes = samples(measure, runs)
    how: dict[str, Any] = {
        "level": wanted.level,
        "replicates": wanted.replicates,
        "seed": wanted.seed,
    }
    baseline = wanted.baseline or _baseline(runs, [sample.arm for sample in found])
    ranking = rank(found, measure, baseline, alpha=wanted.alpha, **how)
    return StudyReport(
        title=wanted.title or _title(runs),
        question=_said(runs, "study.question") or "",
        conclusion=conclude(ranking),
        ranking=ranking,
        by_class=_by_class(ranking, runs, how),
        colors=_colors(runs),
        runs=runs,
        unfinished=unfinished,
        notes=(*cautions, *_chosen_on(measure.key), *notes),
        command=command,
    )


def _chosen(runs: Sequence[RunRecord], arms: Sequence[str] | None) -> list[RunRecord]:
    if arms is None:
        return list(runs)
    there = by_arm(runs)
    if unknown := [arm for arm in arms if arm not in there]:
        raise ConfigError(f"arms={unknown[0]}: no run is of it; choose from {', '.join(there)}.")
    return [run for run in runs if run.arm in arms]


def _baseline(runs: Sequence[RunRecord], ranked: Sequence[str]) -> str | None:
    """The study's, else its first arm, as far as it was run."""
    said = _said(runs, "study.baseline") or next(iter(_said(runs, "study.arms") or ()), None)
    named = [arm for arm in ranked if arm == said or arm.endswith(f"/{said}")]
    return named[0] if named else None


def _said(runs: Sequence[RunRecord], key: str) -> Any:
    """What the runs' configurations say alike; None where they do not."""
    values = []
    for run in runs:
        node: Any = run.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        values.append(node)
    return values[0] if all(value == values[0] for value in values) else None


def _title(runs: Sequence[RunRecord]) -> str:
    studies = list(dict.fromkeys(run.study for run in runs if run.study))
    if not studies:
        return f"{len(by_arm(runs))} arms, {len(runs)} runs"
    protocol = _said(runs, "protocol.name")
    return " and ".join(studies) + (f", protocol {protocol}" if protocol else "")


def _chosen_on(key: str) -> list[str]:
    if not key.startswith("val/"):
        return []
    return ["val chose the epoch of every run, so its scores flatter: report on test."]


def _by_class(
    ranking: Ranking, runs: Sequence[RunRecord], how: Mapping[str, Any]
) -> dict[str, tuple[ArmResult, ...]]:
    """Pooled Dice of every class on the side that is reported; the others' measures have none."""
    side, _, name = ranking.measure.key.partition("/")
    score = name.partition("/")[0]
    family = score if score in ("dice", "iou", "dice_tissue", "iou_tissue") else "dice"
    order = {result.arm: place for place, result in enumerate(ranking.arms)}
    found = {}
    for label in _classes(runs):
        try:
            measure = find_measure(f"{side}/{family}/{label}", runs)
        except ConfigError:  # arms of other heads have other classes
            continue
        results = arm_results(samples(measure, runs)[0], measure, **how)
        found[label] = tuple(sorted(results, key=lambda r: order.get(r.arm, len(order))))
    return found


def _classes(runs: Sequence[RunRecord]) -> list[str]:
    named = [tuple(run.metrics.get("classes", ())) for run in runs]
    return list(named[0]) if len(set(named)) == 1 else []


def _colors(runs: Sequence[RunRecord]) -> dict[str, str]:
    classes = (runs[0].environment.get("data") or {}).get("classes", ())
    return {c["name"]: c["color"] for c in classes}
