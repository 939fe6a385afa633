"""One row a tissue: for a table in the terminal, and all of them for a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from tissueseg.errors import TissueDataError
from tissueseg.inspection.masks import diameter
from tissueseg.inspection.overview import Inspection, TissueFacts
from tissueseg.inspection.shifts import Shift
from tissueseg.store.tissues import TissueStore

SHOWN = 20

Row = dict[str, Any]


def summary_rows(store: TissueStore, inspection: Inspection) -> list[Row]:
    """One row a tissue, the same keys in each; None: not known."""
    return [
        _row(store, tissue, facts, inspection.warnings[tissue])
        for tissue, facts in inspection.tissues.items()
    ]


def write_summary(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV.

    Raises:
        TissueDataError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise TissueDataError(
            f"cannot write the summary {path}: {error}. Choose another place."
        ) from error


def summary_table(rows: list[Row], shown: int = SHOWN) -> Table:
    """The first rows, tissues with warnings before others; long names fold where it is narrow."""
    ranked = sorted(rows, key=lambda row: -row["warnings"])[:shown]
    columns = _columns(ranked, rows[0]["unit"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = ["tissue"]
    if any(row["patient"] != row["tissue"] for row in rows):
        names.append("patient")
    for name in names:
        table.add_column(f"\n{name}", overflow="fold")
    for title, cells in columns.items():
        width = max(len(line) for text in (title, *cells) for line in text.split("\n"))
        table.add_column(title, justify="right", no_wrap=True, min_width=width)
    for row, *cells in zip(ranked, *columns.values(), strict=True):
        table.add_row(*(escape(row[name]) for name in names), *cells)
    if len(rows) > shown:
        table.add_row(f"… {len(rows) - shown} more")
    return table


def _columns(rows: list[Row], unit: str) -> dict[str, list[str]]:
    """Titles and cells of the columns of figures."""
    return {
        "size\npx": [f"{row['height_px']}×{row['width_px']}" for row in rows],
        "\ncells": [str(row["cells"]) for row in rows],
        "\nclasses": [str(row["classes"]) for row in rows],
        f"median\n{unit}": [_number(row["median_diameter"]) for row in rows],
        f"H&E–SP\n{unit}": [_number(row["he_sp_shift"]) for row in rows],
        f"masks\n{unit}": [_number(row["mask_shift"]) for row in rows],
        "warn-\nings": [str(row["warnings"] or "") for row in rows],
    }


def _row(store: TissueStore, tissue: str, facts: TissueFacts, warnings: int) -> Row:
    entry, masks, unit = store.entry(tissue), facts.masks, store.mpp or 1.0
    across = round(unit * diameter(masks.median_px), 2) if masks.instances else None
    images, against = facts.registration.images, facts.registration.masks
    counts = {
        f"cells_{c.name}": n for c, n in zip(store.classes, masks.per_class, strict=True) if c.id
    }
    return {
        "tissue": tissue,
        "patient": entry.patient,
        "split": entry.split or "",
        "height_px": entry.height,
        "width_px": entry.width,
        "unit": "px" if store.mpp is None else "µm",
        "cells": masks.instances,
        "classes": sum(count > 0 for count in counts.values()),
        "median_diameter": across,
        **_shift("he_sp", images),
        **_shift("mask", against),
        "mask_reference": facts.registration.reference,
        "warnings": warnings,
        **counts,
        "cells_unknown": masks.unknown,
    }


def _shift(name: str, shift: Shift | None) -> Row:
    length, down, right = (shift.length, shift.dy, shift.dx) if shift else (None, None, None)
    values = {"shift": length, "shift_down": down, "shift_right": right}
    return {f"{name}_{k}": None if v is None else round(v, 2) for k, v in values.items()}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
