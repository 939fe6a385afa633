"""What a report's charts and tables take from the runs of an arm, added up or averaged over them.

Confusion counts and bins of confidence are summed over runs; curves are means over runs, between the
lowest and the highest of them. Whatever a run did not leave is left out, never taken as nought.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tissueseg.reporting.records.run_record import RunRecord
from tissueseg.reporting.study.report import StudyReport


class Curve(NamedTuple):
    """A logged number of an arm, by epoch."""

    epochs: np.ndarray  # (E,) those where a run has the number
    mean: np.ndarray  # (E,) over runs
    low: np.ndarray  # (E,) of the lowest run
    high: np.ndarray  # (E,) of the highest


class Bins(NamedTuple):
    """Confidence and truth of an arm's predictions, summed over its runs."""

    counts: np.ndarray  # (bins,) pixels or cells
    confidence: np.ndarray  # (bins,) mean, NaN where there are none
    accuracy: np.ndarray  # (bins,)
    ece: float  # of the summed bins
    brier: float  # mean over runs, weighted by their counts


def side_of(report: StudyReport) -> str:
    """The side of the split that the report is about: val or test."""
    return report.ranking.measure.key.partition("/")[0]


def arms_of(report: StudyReport) -> list[str]:
    """Arms in the ranking's order; behind them those that had runs and no rank."""
    ranked = [result.arm for result in report.ranking.arms]
    return list(dict.fromkeys([*ranked, *(run.arm for run in report.runs)]))


def runs_of(report: StudyReport, arm: str) -> list[RunRecord]:
    """Finished runs of an arm."""
    return [run for run in report.runs if run.arm == arm]


def classes_of(runs: Sequence[RunRecord]) -> list[str]:
    """Names of classes by id, of the first run."""
    return list(runs[0].metrics.get("classes", ())) if runs else []


def cells_of(run: RunRecord, side: str) -> Mapping[str, Any]:
    """What was scored of cells; empty where nothing was."""
    sources = (run.evaluations.get(side), run.metrics.get(side))
    return next((found["cells"] for found in sources if found and found.get("cells")), {})


def run_score(run: RunRecord, key: str) -> float:
    """One run's score by the name of a measure; NaN where it has none."""
    side, _, name = key.partition("/")
    flat = run.metrics.get("metrics", {})
    found = run.metrics.get(side) or {}
    if flat.get(key) is not None:
        return _float(flat[key])
    if name.partition("/")[0] in ("dice_tissue", "iou_tissue"):
        scores = [tissue_score(run, key, tissue) for tissue in found.get("tissues", {})]
        defined = [score for score in scores if not math.isnan(score)]
        return math.fsum(defined) / len(defined) if defined else math.nan
    value = _of_classes(run, found.get("pooled", {}), name)
    for more in (cells_of(run, side).get("scores", {}), found.get("study", {})):
        value = more.get(name) if value is None else value
    return _float(value)


def tissue_key(report: StudyReport) -> str:
    """The measure that single tissues are ordered by: the report's, else macro Dice of their pixels."""
    key, side = report.ranking.measure.key, side_of(report)
    for run in report.runs:
        tissues = (run.metrics.get(side) or {}).get("tissues", {})
        if any(not math.isnan(tissue_score(run, key, tissue)) for tissue in tissues):
            return key
    return f"{side}/dice/macro_foreground"


def tissue_score(run: RunRecord, key: str, tissue: str) -> float:
    """One tissue's own score by the name of a measure; NaN where it has none."""
    side, _, name = key.partition("/")
    own = (run.metrics.get(side) or {}).get("tissues", {}).get(tissue, {})
    value = _of_classes(run, own, name.replace("_tissue/", "/"))
    if value is None:
        value = cells_of(run, side).get("tissues", {}).get(tissue, {}).get(name)
    return _float(value)


def guess_level(report: StudyReport) -> float:
    """Score of guessing by the training frequencies, mean over runs; NaN unless all runs say it."""
    side = side_of(report)
    if report.ranking.measure.key != f"{side}/dice/macro_foreground" or not report.runs:
        return math.nan
    pooled = ((run.metrics.get(side) or {}).get("pooled", {}) for run in report.runs)
    return float(np.mean([_float(p.get("prior_macro_dice_foreground")) for p in pooled]))


def confusion_of(runs: Sequence[RunRecord], side: str) -> np.ndarray | None:
    """Counts (n, n) [truth, prediction] of all tissues of the runs with the first run's classes.

    None where no run kept them.
    """
    names = classes_of(runs)
    fitting = [run for run in runs if side in run.confusion and classes_of([run]) == names]
    kept = [run.confusion[side].sum(axis=0) for run in fitting]
    kept = [counts for counts in kept if counts.shape == (len(names), len(names))]
    return np.sum(kept, axis=0) if kept else None


def shares_of(runs: Sequence[RunRecord], side: str) -> dict[str, tuple[float, float]]:
    """Class -> its true and its predicted share of all known pixels; empty without counts."""
    counts = confusion_of(runs, side)
    if counts is None or not counts.sum():
        return {}
    truth, guessed = (counts.sum(axis=axis) / counts.sum() for axis in (1, 0))
    return dict(
        zip(classes_of(runs), zip(truth.tolist(), guessed.tolist(), strict=True), strict=True)
    )


def curve_of(runs: Sequence[RunRecord], name: str) -> Curve | None:
    """A number of `history.npz` over the runs that logged it."""
    logged = [run.history for run in runs if name in run.history and "epoch" in run.history]
    if not logged:
        return None
    epochs = np.unique(np.concatenate([np.asarray(found["epoch"], float) for found in logged]))
    values = np.full((len(logged), len(epochs)), np.nan)
    for row, found in zip(values, logged, strict=True):
        row[np.searchsorted(epochs, found["epoch"])] = found[name]
    values[~np.isfinite(values)] = np.nan
    known = ~np.isnan(values).all(axis=0)
    if not known.any():
        return None
    values = values[:, known]
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    return Curve(epochs[known], np.nanmean(values, axis=0), low, high)


def kept_of(runs: Sequence[RunRecord], name: str) -> list[tuple[float, float]]:
    """The epoch whose decoder each run kept, and the number it had there."""
    points = []
    for run in runs:
        epoch, epochs = run.metrics.get("epoch"), run.history.get("epoch")
        if epoch is None or epochs is None or name not in run.history:
            continue
        values = run.history[name][np.asarray(epochs) == epoch]
        points += [(float(epoch), float(value)) for value in values if math.isfinite(value)]
    return points


def bins_of(runs: Sequence[RunRecord], side: str, of: str) -> Bins | None:
    """Bins of confidence; None where no run has them.

    Args:
        runs: of an arm.
        side: of the split.
        of: what was counted, "pixels" or "cells".
    """
    parts = [found for run in runs if (found := _bins(run, side, of))]
    parts = [found for found in parts if len(found[of]) == len(parts[0][of])]
    if not parts:
        return None
    counts = [_array(found[of], 0.0) for found in parts]
    total = np.sum(counts, axis=0)
    means = []
    for key in ("confidence", "accuracy"):
        pairs = zip(counts, parts, strict=True)
        summed = np.sum([n * _array(found[key], 0.0) for n, found in pairs], axis=0)
        means.append(np.divide(summed, total, out=np.full_like(total, np.nan), where=total > 0))
    filled = total > 0
    gaps = np.abs(means[0] - means[1])[filled] * total[filled]
    ece = float(gaps.sum() / total.sum()) if filled.any() else math.nan
    weights = np.array([n.sum() for n in counts])
    briers = np.array([_float(found.get("brier")) for found in parts])
    brier = float((weights * briers).sum() / weights.sum()) if weights.sum() else math.nan
    return Bins(total, means[0], means[1], ece, brier)


def _bins(run: RunRecord, side: str, of: str) -> Mapping[str, Any]:
    """Bins of one run, with its Brier score."""
    if of == "pixels":
        return (run.metrics.get(side) or {}).get("calibration") or {}
    cells = cells_of(run, side)
    bins = cells.get("reliability") or {}
    return {**bins, "brier": cells.get("scores", {}).get("brier_pooled")} if bins else {}


def _of_classes(run: RunRecord, scores: Mapping[str, Any], name: str) -> float | None:
    """`dice/macro`, `iou/tumor` … out of scores of pixels."""
    score, _, of = name.partition("/")
    if of in ("macro", "macro_foreground"):
        return scores.get(f"macro_{score}{of.removeprefix('macro')}")
    classes = classes_of([run])
    return scores[score][classes.index(of)] if of in classes and score in scores else None


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _array(values: Sequence[float | None], empty: float) -> np.ndarray:
    return np.array([empty if v is None or v != v else v for v in values], float)
