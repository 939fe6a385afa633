"""Where a report's numbers came from: what all runs were made with, said once, and each run's own.

A table that repeats a machine and ten versions in every row hides the one row that differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tissueseg.reporting.records.run_record import RunRecord
from tissueseg.reporting.study.from_runs import arms_of, run_score, runs_of
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.rows import Rows
from tissueseg.reporting.study.words import DASH, number

_SHORT = 12  # characters of a digest
_PACKAGES = "packages"


class _Made(NamedTuple):
    """What one run was made with."""

    facts: Mapping[str, str]  # commit, encoder, machine
    versions: Mapping[str, str]  # of packages


def listed_runs(report: StudyReport) -> list[RunRecord]:
    """By arm, in the ranking's order."""
    return [run for arm in arms_of(report) for run in runs_of(report, arm)]


def shared_facts(report: StudyReport) -> list[str]:
    """What all runs were made with, a line each: `commit: 560a201ca252`."""
    made = [_made(run) for run in listed_runs(report)]
    facts = _shared([m.facts for m in made])
    if versions := _shared([m.versions for m in made]):
        facts[_PACKAGES] = _versions(versions)
    return [f"{name}: {value}" for name, value in facts.items()]


def run_rows(report: StudyReport) -> Rows:
    """Every run, by arm, fold and seed, and what it was made with, where runs differ."""
    runs = listed_runs(report)
    made = [_made(run) for run in runs]
    same, alike = _shared([m.facts for m in made]), _shared([m.versions for m in made])
    names = list(dict.fromkeys(name for m in made for name in m.facts if name not in same))
    own = [{k: v for k, v in m.versions.items() if k not in alike} for m in made]
    rows = []
    for run, (facts, _), versions in zip(runs, made, own, strict=True):
        differing = [facts.get(name, DASH) for name in names]
        differing += [_versions(versions) or DASH] if any(own) else []
        rows.append([*_result(report, run), *differing, *_names(run)])
    header = ("arm", "fold", "seed", "score", "epoch kept", *names, *[_PACKAGES] * any(own))
    return Rows((*header, "fingerprint", "run"), rows, range(2, 5))


def _result(report: StudyReport, run: RunRecord) -> list[str]:
    score = number(run_score(run, report.ranking.measure.key))
    return [run.arm, run.fold or DASH, str(run.seed), score, _word(run.metrics.get("epoch"))]


def _names(run: RunRecord) -> list[str]:
    return [_word(run.environment.get("fingerprint"))[:_SHORT], run.place]


def _made(run: RunRecord) -> _Made:
    known = run.environment
    facts = {
        "commit": _word(known.get("commit")),
        "encoder": _encoder(run),
        "machine": _machine(known.get("machine") or {}),
    }
    own = {"tissueseg": known.get("tissueseg"), "python": known.get("python")}
    found = own | dict(known.get("packages") or {})
    return _Made(facts, {name: str(version) for name, version in found.items() if version})


def _shared(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What stands alike in all of them."""
    first, *others = found or [{}]
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _encoder(run: RunRecord) -> str:
    encoder = run.environment.get("encoder") or {}
    name = str(run.metrics.get("encoder") or encoder.get("name") or DASH)
    sha = encoder.get("sha256")
    return f"{name} {str(sha)[:_SHORT]}" if sha else name


def _machine(machine: Mapping[str, Any]) -> str:
    gpus = [str(gpu) for gpu in machine.get("gpus") or ()]
    devices = f"{len(gpus)} × {gpus[0]}" if gpus else "no GPU"
    return f"{machine['system']}, {devices}" if machine.get("system") else DASH


def _word(value: Any) -> str:
    return DASH if value is None else str(value)
