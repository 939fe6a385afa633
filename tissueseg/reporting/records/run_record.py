"""A finished run as a report knows it: the small files of its folder, and nothing of its data.

Folders are read as they lie, copied from wherever: no path that a file names is opened, and nothing is
unpickled. A file that is broken is an error, for a report without it would be of other runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tissueseg.errors import RunFolderError
from tissueseg.reporting import runs
from tissueseg.reporting.records import run_files
from tissueseg.reporting.records.run_files import read
from tissueseg.reporting.records.run_search import Place, find_runs, missing

HISTORY = "history.npz"
EVALUATION = "evaluation"


class Unfinished(NamedTuple):
    """A run that left no scores."""

    place: str
    why: str  # what its record says: failed, with the line it ended with; or what is missing


@dataclass(frozen=True)
class RunRecord:
    """One finished run."""

    folder: Path
    place: str  # folder relative to what the user named, for tables
    study: str | None  # of `config.study`
    arm: str  # what is compared
    fold: str  # of the split; "" where it has none
    seed: int
    config: Mapping[str, Any]  # config.yaml
    environment: Mapping[str, Any]  # environment.json
    metrics: Mapping[str, Any]  # metrics.json
    evaluations: Mapping[str, Mapping[str, Any]]  # side -> what `evaluate` wrote of it
    history: Mapping[str, np.ndarray]  # history.npz: name -> (epochs,)
    confusion: Mapping[str, np.ndarray]  # side -> (tissues, n, n) [tissue, truth, prediction]
    cost: Mapping[str, Any]  # cost.json; empty for older runs
    panels: Mapping[str, Path]  # tissue -> its picture

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what its pixels are scored between, background first."""
        return tuple(self.metrics["classes"])

    @property
    def sides(self) -> tuple[str, ...]:
        """That were scored, by `train` or by `evaluate`."""
        return tuple(self.confusion)

    def scores(self, side: str) -> Mapping[str, Any]:
        """Of a side: what `train` wrote, else what `evaluate` did; empty where neither scored it."""
        return self.metrics.get(side) or self.evaluations.get(side) or {}

    def tissues(self, side: str) -> tuple[str, ...]:
        """Of a side, in the order of its confusion."""
        return tuple(self.scores(side).get("tissues", ()))


def read_runs(folders: Sequence[Path]) -> tuple[list[RunRecord], list[Unfinished]]:
    """Every run at or below some folders; those without scores apart.

    Args:
        folders: of runs, of studies, or of many of them.

    Raises:
        RunFolderError: none is found, or a file of one is broken.
    """
    found, jobs = find_runs([Path(folder) for folder in folders])
    records, unfinished = [], []
    noted = _noted(jobs)
    for folder, place in found:
        said = noted.pop(folder.resolve(), None)
        if lacking := missing(folder):
            unfinished.append(
                Unfinished(place, f"{' and '.join(lacking)} not there: copy it again")
            )
        elif (folder / runs.METRICS).is_file():
            records.append(read_run(folder, place))
        else:
            unfinished.append(Unfinished(place, _why(said)))
    unfinished += [said for said in noted.values() if said is not None]
    if not records and not unfinished:
        named = ", ".join(map(str, folders)) or "nothing"
        raise RunFolderError(
            f"runs={named} holds no run, that is no folder with {runs.CONFIG} beside "
            f"{runs.ENVIRONMENT}: give folders that `train` made, or those they lie in."
        )
    return records, unfinished


def read_run(folder: Path, place: str) -> RunRecord:
    """A run that has scores.

    Args:
        folder: of the run.
        place: how tables name it.

    Raises:
        RunFolderError: a file is missing, broken or contradicts another.
    """
    config = read(folder / runs.CONFIG, run_files.config_of)
    environment = read(folder / runs.ENVIRONMENT, run_files.environment_of)
    metrics = read(folder / runs.METRICS, lambda path: run_files.metrics_of(path, *runs.CONFUSION))
    study, history, cost = config.get("study") or {}, folder / HISTORY, folder / runs.COST
    fold = (config.get("split") or {}).get("fold")
    evaluations = _evaluations(folder)
    record = RunRecord(
        folder=folder,
        place=place,
        study=study.get("name"),
        arm=study.get("arm") or str(metrics["run"]),
        fold="" if fold is None else str(fold),
        seed=read(folder / runs.CONFIG, lambda _: int(config["seed"])),
        config=config,
        environment=environment,
        metrics=metrics,
        evaluations=evaluations,
        history=read(history, run_files.history_of) if history.is_file() else {},
        confusion=_confusions(folder, metrics, evaluations),
        cost=read(cost, run_files.cost_of) if cost.is_file() else {},
        panels={path.stem: path for path in sorted((folder / runs.PANELS).glob("*.png"))},
    )
    _check_split(record)
    return record


def _noted(jobs: Sequence[Place]) -> dict[Path, Unfinished | None]:
    """Run folder -> what its sweep noted, None for one that went well; by the record's own place."""
    noted: dict[Path, Unfinished | None] = {}
    for path, study in jobs:
        job = run_files.job_of(path)
        parts = (job["arm"], job["label"])
        if not all(parts):  # no record of a sweep
            continue
        why = f"failed: {job.get('line') or 'without a word'}"
        if job["state"] != "failed":
            why = f"its record says {job['state']}, but its folder is not here"
        place = "/".join(filter(None, (study, *parts)))
        folder = path.parent.parent.joinpath(*parts).resolve()
        noted[folder] = Unfinished(place, why)
    return noted


def _why(noted: Unfinished | None) -> str:
    if noted is not None and noted.why.startswith("failed"):
        return noted.why
    return f"no {runs.METRICS}"


def _evaluations(folder: Path) -> dict[str, dict[str, Any]]:
    """Side -> its part of `evaluation/<side>/metrics.json`."""
    paths = sorted((folder / EVALUATION).glob(f"*/{runs.METRICS}"))
    return {path.parent.name: read(path, _only_side) for path in paths}


def _only_side(path: Path) -> dict[str, Any]:
    side = path.parent.name
    return run_files.metrics_of(path, side)[side]


def _confusions(
    folder: Path, metrics: Mapping[str, Any], evaluations: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Side -> counts: of `train`'s sides, then of those that `evaluate` alone has scored."""
    paths = {side: folder / name for side, name in runs.CONFUSION.items() if side in metrics}
    alone = [side for side in evaluations if side not in paths]
    paths |= {side: folder / EVALUATION / side / runs.CONFUSION["val"] for side in alone}
    n, found = len(metrics["classes"]), {}
    for side, path in paths.items():
        tissues = (evaluations if side in alone else metrics)[side].get("tissues", {})
        found[side] = read(path, partial(run_files.counts_of, shape=(len(tissues), n, n)))
    return found


def _check_split(record: RunRecord) -> None:
    split = record.environment.get("split") or {}
    for side in record.sides:
        meant, found = split.get(side), record.tissues(side)
        if side in record.metrics and meant is not None and tuple(meant) != found:
            raise RunFolderError(
                f"{record.folder}: {runs.METRICS} has scores of {side} tissues {list(found)}, but "
                f"{runs.ENVIRONMENT} says {list(meant)}. Copy the folder again, or leave it out."
            )
