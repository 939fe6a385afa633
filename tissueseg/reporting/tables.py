"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape  # names are the users', brackets and all
from rich.table import Table

_ROLE = {"val": "val, chose the epoch", "test": "test, seen once"}


def class_table(about: Mapping[str, Any], sides: Mapping[str, Mapping[str, Any]]) -> Table:
    """Dice and IoU per class for each side of the split, beside the Dice of guessing.

    Args:
        about: run, epoch and class names.
        sides: side of the split -> what `side_scores` returned.
    """
    classes = about["classes"]
    trained = about["epoch"] >= 0
    state = f"epoch {about['epoch'] + 1}" if trained else "as loaded"
    title = f"{escape(about['run'])}, {state}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = _caption(sides, _ROLE if trained else {}), "left"
    table.add_column("class", no_wrap=True)
    for side in sides:
        table.add_column(f"{escape(side)} share", justify="right")
        table.add_column("Dice", justify="right", style="bold")
        table.add_column("IoU", justify="right")
        table.add_column("guess", justify="right", style="dim")
    for i, name in enumerate(classes):
        cells = (_class_cells(side["pooled"], i) for side in sides.values())
        table.add_row(
            escape(name),
            *(cell for row in cells for cell in row),
            end_section=i == len(classes) - 1,
        )
    macros = (_macro_cells(side["pooled"]) for side in sides.values())
    table.add_row("macro foreground", *(cell for row in macros for cell in row))
    return table


_CELL_ROWS = {
    "bPQ": ("bpq_image", "bpq_tissue", "bpq_plus"),
    "mPQ": ("mpq_image", "mpq_tissue", "mpq_plus"),
    "AJI": ("aji_image", None, "aji_pooled"),
    "AJI+": ("aji_plus_image", None, "aji_plus_pooled"),
    "detection F1": ("detection_f1_image", None, "detection_f1_pooled"),
    "classification F1": (None, None, "classification_f1_pooled"),
    "boundary F1": ("boundary_f1_image", None, "boundary_f1_pooled"),
    "foreground Dice": ("binary_dice_image", None, "binary_dice_pooled"),
    "HV MSE": ("hv_mse_image", None, "hv_mse_pooled"),
    "ECE of types": ("ece_image", None, "ece_pooled"),
}
"""Score -> its keys: averaged over images, over groups of images, and of pooled counts."""


def cell_table(cells: Mapping[str, Any]) -> Table:
    """Scores of cells, each averaging in a column of its own.

    Args:
        cells: as `metrics.json` has them.
    """
    scores, groups = cells["scores"], len(set(cells["groups"].values()))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.title = f"cells by {escape(cells['instances'].partition('(')[0])}"
    images = len(cells["tissues"])
    table.caption = (
        f"mean of images: of {images} tissues; of groups: of the means of {groups} groups of them; "
        "pooled: of counts added up, where false alarms in tissues without such cells count, too."
    )
    table.caption_justify = "left"
    for name in ("score", "mean of images", "mean of groups", "pooled"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for name, keys in _CELL_ROWS.items():
        values = [_number(scores.get(key)) if key else "" for key in keys]
        if any(key in scores for key in keys):
            table.add_row(name, *values)
    return table


def _caption(sides: Mapping[str, Mapping[str, Any]], roles: Mapping[str, str]) -> str:
    counts = (f"{escape(roles.get(s, s))}: {len(scores['tissues'])}" for s, scores in sides.items())
    return (
        f"Pooled over all pixels of the tissues ({'; '.join(counts)}). –: class in neither truth nor "
        "prediction. guess: Dice of drawing each pixel's class from the training frequencies."
    )


def _class_cells(pooled: Mapping[str, Any], i: int) -> list[str]:
    share = f"{100 * pooled['truth_share'][i]:.2f} %"
    return [share, *(_number(pooled[key][i]) for key in ("dice", "iou", "prior_dice"))]


def _macro_cells(pooled: Mapping[str, Any]) -> list[str]:
    keys = ("macro_dice_foreground", "macro_iou_foreground", "prior_macro_dice_foreground")
    return ["", *(_number(pooled[key]) for key in keys)]


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
