"""Which panels a report shows: the tissues that went best, middling and worst, once for every arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tissueseg.drawing import read_pictures
from tissueseg.reporting.records.run_record import RunRecord
from tissueseg.reporting.study.from_runs import arms_of, runs_of, side_of, tissue_key, tissue_score
from tissueseg.reporting.study.report import StudyReport

PICTURE_PX = 320
"""Longest side of a picture that is shown for itself."""

_OF_ARM = ("prediction", "error", "boundary")
"""Titles of what every arm has of its own, as they stand below one another."""

_WIDTHS_PX = ((9, 1200), (18, 900), (math.inf, 640))
"""Up to so many whole sheets are so wide."""


class Shown(NamedTuple):
    """One arm's panel of a tissue: its own pictures, or the whole sheet if that names none."""

    arm: str
    fold: str
    seed: int
    score: float  # of this run on this tissue
    pictures: Mapping[str, np.ndarray]  # title -> (H, W, 3) uint8
    sheet: np.ndarray | None = None  # (H, W, 3) uint8


class TissuePanels(NamedTuple):
    """A tissue with a panel of every arm that drew one."""

    role: str  # best, median or worst
    tissue: str
    score: float  # mean over arms of the means over their runs
    shared: Mapping[str, np.ndarray]  # title -> (H, W, 3) uint8: inputs and truth, alike for arms
    panels: list[Shown]
    without: list[str]  # arms that drew none


class Choice(NamedTuple):
    """What is shown, and what could not be."""

    key: str  # measure that tissues are ordered by
    tissues: list[TissuePanels]
    notes: list[str]


def choose_pictures(report: StudyReport) -> Choice:
    """Pick tissues and runs, and read their panels.

    Of an arm's runs that were scored on the tissue, the one with the median score is shown.
    """
    key, arms = tissue_key(report), arms_of(report)
    scores = _scores(report, key)
    drawn = {t: s for t, s in scores.items() if any(t in run.panels for run in report.runs)}
    notes = []
    if missing := len(scores) - len(drawn):
        notes.append(f"{missing} of {len(scores)} tissues have no panels and were not considered.")
    better = report.ranking.measure.higher_is_better or key != report.ranking.measure.key
    ordered = sorted(
        drawn, key=lambda tissue: (-drawn[tissue] if better else drawn[tissue], tissue)
    )
    picked = dict(zip(_places(len(ordered)), ("best", "worst", "median"), strict=False))
    width = next(w for most, w in _WIDTHS_PX if len(picked) * len(arms) <= most)
    shown = []
    for place, role in sorted(picked.items()):
        tissue = ordered[place]
        panels = [_shown(report, arm, key, tissue, width, notes) for arm in arms]
        shared, kept = _parted([panel for panel in panels if panel is not None])
        without = [arm for arm, panel in zip(arms, panels, strict=True) if panel is None]
        shown.append(TissuePanels(role, tissue, drawn[tissue], shared, kept, without))
    return Choice(key, shown, notes)


def _scores(report: StudyReport, key: str) -> dict[str, float]:
    """Every tissue's score: mean over arms of the means over their runs, where it is defined."""
    side, found = side_of(report), {}
    tissues = (t for run in report.runs for t in (run.metrics.get(side) or {}).get("tissues", {}))
    for tissue in dict.fromkeys(tissues):
        means = []
        for arm in arms_of(report):
            values = [tissue_score(run, key, tissue) for run in runs_of(report, arm)]
            values = [value for value in values if not math.isnan(value)]
            means += [math.fsum(values) / len(values)] if values else []
        if means:
            found[tissue] = math.fsum(means) / len(means)
    return found


def _places(count: int) -> list[int]:
    """The first, the last and the middle, each once."""
    return list(dict.fromkeys([0, count - 1, (count - 1) // 2])) if count else []


def _shown(
    report: StudyReport, arm: str, key: str, tissue: str, width_px: int, notes: list[str]
) -> Shown | None:
    """The panel of the run in the middle of an arm's; None where none was drawn or it is unreadable."""
    runs = [(tissue_score(run, key, tissue), run) for run in runs_of(report, arm)]
    drawn = [(score, run) for score, run in runs if tissue in run.panels and not math.isnan(score)]
    if not drawn:
        return None
    score, run = _middle(drawn)
    try:
        pictures, sheet = _read(run.panels[tissue], width_px)
    except (OSError, Image.DecompressionBombError) as error:
        notes.append(f"{run.place}: the panel of {tissue} cannot be read: {error}.")
        return None
    return Shown(arm, run.fold, run.seed, score, pictures, sheet)


def _middle(runs: list[tuple[float, RunRecord]]) -> tuple[float, RunRecord]:
    ordered = sorted(runs, key=lambda pair: (pair[0], pair[1].place))
    return ordered[(len(ordered) - 1) // 2]


def _read(path: Path, width_px: int) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The pictures of a sheet; of one that does not say where they lie, the sheet itself."""
    with Image.open(path) as image:
        found = read_pictures(image)
        if found:
            return {title: _at_most(part, PICTURE_PX) for title, part in found.items()}, None
        return {}, _at_most(image, width_px)


def _at_most(image: Image.Image, width_px: int) -> np.ndarray:
    """(H, W, 3) uint8, no wider than told."""
    shown = image.convert("RGB")
    if shown.width > width_px:
        height = max(1, round(shown.height * width_px / shown.width))
        shown = shown.resize((width_px, height), Image.Resampling.LANCZOS)
    return np.asarray(shown)


def _parted(panels: list[Shown]) -> tuple[dict[str, np.ndarray], list[Shown]]:
    """What arms have alike, once; and of every arm the rest.

    An input or a truth that differs from the other arms' of that title stays with its arm.
    """
    shared: dict[str, np.ndarray] = {}
    for panel in panels:
        inputs = (title for title in panel.pictures if title not in _OF_ARM)
        shared |= {title: panel.pictures[title] for title in inputs if title not in shared}
    order = [title for title in shared if title != "truth"] + ["truth"] * ("truth" in shared)
    return {title: shared[title] for title in order}, [
        panel._replace(pictures=_own(panel.pictures, shared)) for panel in panels
    ]


def _own(
    pictures: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    differing = [
        title
        for title, picture in pictures.items()
        if title in shared and not np.array_equal(picture, shared[title])
    ]
    return {title: pictures[title] for title in (*_OF_ARM, *differing) if title in pictures}
