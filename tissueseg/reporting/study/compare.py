"""From finished runs to everything a report says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tissueseg.errors import ConfigError, RunFolderError
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
        RunFolderError: no run has finished.
    """
    if not records:
        raise _none_finished(unfinished)
    every = with_arms(records)
    runs = _chosen(every, wanted.arms)
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
    by_class, left_out = _by_class(ranking, runs, how)
    return StudyReport(
        title=wanted.title or _title(runs),
        question=_said(runs, "study.question") or "",
        conclusion=conclude(ranking),
        ranking=ranking,
        by_class=by_class,
        colors=_colors(runs),
        runs=runs,
        unfinished=unfinished,
        notes=(*_choices(ranking, runs, every), *cautions, *notes, *left_out),
        command=command,
    )


def _chosen(runs: Sequence[RunRecord], arms: Sequence[str] | None) -> list[RunRecord]:
    if arms is None:
        return list(runs)
    there = by_arm(runs)
    if not arms:
        raise ConfigError(
            f"arms=[]: wanted one arm at least of {', '.join(there)}, or null for all."
        )
    if unknown := [arm for arm in arms if arm not in there]:
        raise ConfigError(f"arms={unknown[0]}: no run is of it; choose from {', '.join(there)}.")
    return [run for run in runs if run.arm in arms]


def _baseline(runs: Sequence[RunRecord], ranked: Sequence[str]) -> str | None:
    """The study's, as far as it was run."""
    said = _of_study(runs)
    named = [arm for arm in ranked if arm == said or arm.endswith(f"/{said}")]
    return named[0] if named else None


def _of_study(runs: Sequence[RunRecord]) -> str | None:
    """The baseline that the study names, else its first arm."""
    return _said(runs, "study.baseline") or next(iter(_said(runs, "study.arms") or ()), None)


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


def _choices(
    ranking: Ranking, runs: Sequence[RunRecord], every: Sequence[RunRecord]
) -> Iterator[str]:
    """What was chosen otherwise than the study says, or among its results."""
    key, protocols = ranking.measure.key, _said(runs, "protocol.metric")
    if protocols and key != protocols:
        yield f"Ranked by {key}, not by the protocol's {protocols}."
    shown, there = by_arm(runs), by_arm(every)
    if len(shown) < len(there):
        yield f"{len(shown)} of {len(there)} arms are shown: {', '.join(shown)}."
    baseline, said = ranking.baseline, _of_study(runs)
    if said and baseline != said and not baseline.endswith(f"/{said}"):
        yield f"Baseline {baseline}, not the study's {said}."
    if key.startswith("val/"):
        yield "val chose the epoch of every run, so its scores flatter: report on test."


def _none_finished(unfinished: Sequence[Unfinished]) -> RunFolderError:
    some = "; ".join(f"{run.place}: {run.why}" for run in unfinished[:3])
    more = f"; {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
    return RunFolderError(
        f"runs: none has finished, wanted one at least ({some or 'none was found'}{more}): finish them "
        "by the command that began them, or name other folders."
    )


def _by_class(
    ranking: Ranking, runs: Sequence[RunRecord], how: Mapping[str, Any]
) -> tuple[dict[str, tuple[ArmResult, ...]], list[str]]:
    """Pooled Dice of every class on the side that is reported; the others' measures have none.

    Returns:
        Class -> arms in the ranking's order; what was left out.
    """
    side, _, name = ranking.measure.key.partition("/")
    score = name.partition("/")[0]
    family = score if score in ("dice", "iou", "dice_tissue", "iou_tissue") else "dice"
    order = {result.arm: place for place, result in enumerate(ranking.arms)}
    found, left_out = {}, []
    for label in _classes(runs):
        try:
            measure = find_measure(f"{side}/{family}/{label}", runs)
        except ConfigError:  # arms of other heads have other classes
            continue
        ranked = [sample for sample in samples(measure, runs)[0] if sample.arm in order]
        try:
            results = arm_results(ranked, measure, **how)
        except ConfigError as error:  # one class should not cost the report
            left_out.append(f"Class {label} is not shown: {error}")
            continue
        found[label] = tuple(sorted(results, key=lambda result: order[result.arm]))
    return found, left_out


def _classes(runs: Sequence[RunRecord]) -> list[str]:
    named = [tuple(run.metrics.get("classes", ())) for run in runs]
    return list(named[0]) if len(set(named)) == 1 else []


def _colors(runs: Sequence[RunRecord]) -> dict[str, str]:
    classes = (runs[0].environment.get("data") or {}).get("classes", ())
    return {c["name"]: c["color"] for c in classes or () if c.get("name") and c.get("color")}
