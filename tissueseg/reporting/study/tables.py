"""A study's report for machines: CSV tables and one JSON with every number as it was computed.

What is not defined is empty in CSV and null in JSON; nothing is rounded or cut.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tissueseg.reporting.ranking import ArmResult, Comparison, Interval
from tissueseg.reporting.records.comparable import random_parts
from tissueseg.reporting.records.run_record import RunRecord
from tissueseg.reporting.runs import write_json
from tissueseg.reporting.study.from_runs import run_score
from tissueseg.reporting.study.report import StudyReport

_COSTS = (
    "parameters",
    "trained_parameters",
    "steps",
    "step_s",
    "fit_s",
    "peak_bytes",
    "peak_of",
    "devices",
    "gpu_hours",
)


def write_study_tables(folder: Path, report: StudyReport) -> list[Path]:
    """Write `ranking.csv`, `comparisons.csv`, `classes.csv`, `runs.csv` and `report.json`.

    Args:
        folder: that is there.
        report: what they say.

    Raises:
        OSError: the disk does not take it.
    """
    ranking = report.ranking
    tables = {
        "ranking.csv": ranking_table(report),
        "comparisons.csv": [
            *({"family": "baseline"} | _comparison(c) for c in ranking.against_baseline),
            *({"family": "all pairs"} | _comparison(c) for c in ranking.pairs),
        ],
        "classes.csv": [
            {"class": name, "color": report.colors.get(name)} | _result(result)
            for name, results in report.by_class.items()
            for result in results
        ],
        "runs.csv": [_run(report, run) for run in report.runs],
    }
    for name, rows in tables.items():
        _write_rows(folder / name, rows)
    write_json(folder / "report.json", report_json(report))
    return [folder / name for name in (*tables, "report.json")]


def ranking_table(report: StudyReport) -> list[dict[str, Any]]:
    """Arms, the best first, a row each."""
    measure = report.ranking.measure.key
    head = ({"rank": i, "measure": measure} for i in range(1, len(report.ranking.arms) + 1))
    return [row | _result(r) for row, r in zip(head, report.ranking.arms, strict=True)]


def report_json(report: StudyReport) -> dict[str, Any]:
    """Everything a report says, as plain values; NaN is left for the writer."""
    ranking, measure = report.ranking, report.ranking.measure
    return {
        "title": report.title,
        "question": report.question,
        "conclusion": report.conclusion,
        "measure": {
            "key": measure.key,
            "averaging": measure.averaging,
            "higher_is_better": measure.higher_is_better,
            "unit": measure.unit,
        },
        "level": ranking.level,
        "alpha": ranking.alpha,
        "baseline": ranking.baseline,
        "ranking": ranking_table(report),
        "groups": [list(group) for group in ranking.groups],
        "against_baseline": [_comparison(c) for c in ranking.against_baseline],
        "pairs": [_comparison(c) for c in ranking.pairs],
        "classes": {name: [_result(r) for r in rows] for name, rows in report.by_class.items()},
        "colors": dict(report.colors),
        "runs": [_run(report, run) for run in report.runs],
        "unfinished": [run._asdict() for run in report.unfinished],
        "notes": [*report.notes, *ranking.notes],
        "command": report.command,
    }


def _result(result: ArmResult) -> dict[str, Any]:
    return {
        "arm": result.arm,
        **_interval("score", result.interval),
        "by_seed": list(result.by_seed),
        "seeds": list(result.seeds),
        "units": result.units,
        "letters": result.letters,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "arm": found.arm,
        "other": found.other,
        **_interval("difference", found.difference),
        "p_units": found.p_units,
        "p_runs": found.p_runs,
        "p_both": found.p_both,
        "p": found.p,
        "p_holm": found.p_holm,
        "p_smallest": found.p_smallest,
        "untested": found.untested,
        "effect": found.effect,
        "wins": found.wins,
        "units": found.units,
        "seeds": found.seeds,
    }


def _interval(name: str, interval: Interval) -> dict[str, Any]:
    values = interval._asdict()
    return {name: values.pop("estimate"), **values}


def _run(report: StudyReport, run: RunRecord) -> dict[str, Any]:
    """Where a run's number came from, and what it cost."""
    known, encoder = run.environment, run.environment.get("encoder") or {}
    machine = known.get("machine") or {}
    return {
        "arm": run.arm,
        "study": run.study,
        "fold": run.fold,
        "seed": run.seed,
        "score": run_score(run, report.ranking.measure.key),
        "epoch": run.metrics.get("epoch"),
        "commit": known.get("commit"),
        "fingerprint": known.get("fingerprint"),
        "encoder": run.metrics.get("encoder") or encoder.get("name"),
        "encoder_sha256": encoder.get("sha256"),
        "random_init": random_parts(run),
        "tissueseg": known.get("tissueseg"),
        "python": known.get("python"),
        "packages": dict(known.get("packages") or {}),
        "system": machine.get("system"),
        "gpus": list(machine.get("gpus") or ()),
        "command": known.get("command"),
        **{key: run.cost.get(key) for key in _COSTS},
        "run": run.place,
    }


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of one kind; a file without any is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerows([list(row) for row in rows[:1]])
        table.writerows([[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> Any:
    """A number as it is, a list as JSON, nothing where nothing is defined."""
    if isinstance(value, list | dict):
        return json.dumps(_defined(value), ensure_ascii=False)
    return "" if _undefined(value) else value


def _defined(value: list[Any] | dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: None if _undefined(v) else v for key, v in value.items()}
    return [None if _undefined(v) else v for v in value]


def _undefined(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
