"""From confusion counts to the numbers a run is judged by, beside those of guessing."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tissueseg.metrics.semantic import macro, prior_dice, semantic_scores


def side_scores(
    confusion: np.ndarray, tissues: Sequence[str], train_pixels: Sequence[int]
) -> dict[str, Any]:
    """Scores of one side of the split.

    Args:
        confusion: (n_tissues, n, n) counts [tissue, truth, prediction].
        tissues: their names.
        train_pixels: (n,) pixels of each class in the training tissues.

    Returns:
        `pooled` over all pixels, with the Dice of guessing from the training prior; and `tissues`.
    """
    pooled = confusion.sum(0)
    scores = semantic_scores(pooled)
    # Over the very classes the decoder is scored on, or one macro would average other classes.
    defined = ~np.isnan(scores.dice)
    prior = np.where(defined, prior_dice(train_pixels, pooled.sum(1)), np.nan)
    guessing = {
        "prior_dice": prior.tolist(),
        "prior_macro_dice_foreground": macro(prior, foreground=True),
    }
    each = zip(tissues, confusion, strict=True)
    return {
        "pooled": asdict(scores) | guessing,
        "tissues": {name: asdict(semantic_scores(counts)) for name, counts in each},
    }


def keyed_scores(side: str, classes: Sequence[str], scores: Mapping[str, Any]) -> dict[str, float]:
    """Every score under one name, such as `val/dice/tumor` or `val/bpq_image`.

    Args:
        side: that was scored.
        classes: names, by id.
        scores: what `side_scores` returned, with `calibration`, `cells` and `study` where they were
            scored.
    """
    pooled = scores["pooled"]
    keyed: dict[str, float] = {}
    for name in ("dice", "iou"):
        keyed[f"{side}/{name}/macro"] = pooled[f"macro_{name}"]
        keyed[f"{side}/{name}/macro_foreground"] = pooled[f"macro_{name}_foreground"]
        values = zip(classes, pooled[name], strict=True)
        keyed |= {f"{side}/{name}/{of}": value for of, value in values}
    found = scores.get("calibration", {})
    calibration = {f"calibration/{name}": found[name] for name in ("ece", "brier") if name in found}
    for part in (calibration, scores.get("study", {}), scores.get("cells", {}).get("scores", {})):
        keyed |= {f"{side}/{name}": value for name, value in part.items()}
    return keyed


def run_metrics(about: Mapping[str, Any], sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `metrics.json` holds: the sides' scores in full, and every one under its name in `metrics`.

    Args:
        about: the decoder, with the names of the scored `classes`.
        sides: side -> what `side_scores` returned, with what else was scored.
    """
    keyed: dict[str, float] = {}
    for side, scores in sides.items():
        keyed |= keyed_scores(side, about["classes"], scores)
    return {**about, **sides, "metrics": keyed}


def write_score_tables(folder: Path, classes: Sequence[str], side: Mapping[str, Any]) -> None:
    """The scores of a side as tables: `classes.csv`, `tissues.csv`, and those of its cells.

    Args:
        folder: they go to.
        classes: names, by id.
        side: what `side_scores` returned; with `cells`, what was scored of them.
    """
    cells = side.get("cells")
    pooled, scores = side["pooled"], cells["scores"] if cells else {}
    by_class = ("truth_share", "dice", "iou", "prior_dice")
    found = [
        key.removesuffix(f"/{classes[-1]}") for key in scores if key.endswith(f"/{classes[-1]}")
    ]
    rows = []
    for i, name in enumerate(classes):
        of_cells = [scores.get(f"{key}/{name}") for key in found]
        rows.append([name, *(pooled[key][i] for key in by_class), *of_cells])
    _write_rows(folder / "classes.csv", ["class", *by_class, *found], rows)
    keys = [key for key in next(iter(side["tissues"].values())) if key.startswith("macro")]
    rows = []
    for tissue, values in side["tissues"].items():
        of_cells = cells["tissues"][tissue].values() if cells else ()
        rows.append([tissue, *(values[key] for key in keys), *of_cells])
    _write_rows(folder / "tissues.csv", ["tissue", *keys, *scores_of_one(cells)], rows)
    if cells:
        names = cells["type_names"]
        rows = [[name, *row] for name, row in zip(names, cells["types"], strict=True)]
        _write_rows(folder / "cell_types.csv", ["true \\ detected", *names], rows)
    if cells and (bins := cells.get("reliability")):
        _write_rows(folder / "reliability.csv", list(bins), zip(*bins.values(), strict=True))


def scores_of_one(cells: Mapping[str, Any] | None) -> list[str]:
    """Names of the scores that every tissue has by itself."""
    return list(next(iter(cells["tissues"].values()))) if cells else []


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """What is not defined is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows([["" if v is None or v != v else v for v in row] for row in rows])
