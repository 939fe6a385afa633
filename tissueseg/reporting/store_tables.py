"""Tables of a tissue store: what is in it and what was measured, in the terminal and as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from rich import box
from rich.markup import escape  # names are the users', brackets and all
from rich.table import Table

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.inspection.summary import Row
from tissueseg.store.tissues import TissueStore

SHOWN = 20


def store_table(store: TissueStore) -> Table:
    """What is in the store, in one column."""
    entries = [store.entry(tissue) for tissue in store.tissues]
    sizes = sorted({(e.height, e.width) for e in entries})
    height_width = " … ".join(f"{h} × {w}" for h, w in dict.fromkeys((sizes[0], sizes[-1])))
    channels = (f"{c.name}{'*' * c.nuclear} {c.uniprot or '–'}" for c in store.panel)
    table = Table("store", escape(store.address))
    table.add_row("tissues", f"{len(entries)}, patients {len({e.patient for e in entries})}")
    scale = "an unknown scale" if store.mpp is None else f"{store.mpp:g} µm/px"
    table.add_row("height × width", f"{height_width} px at {scale}")
    table.add_row("images", ", ".join({"he": "H&E", "sp": "SP"}[kind] for kind in store.images))
    if bare := store.unlabelled:
        labelled = len(entries) - len(bare)
        table.add_row("labels", f"of {labelled} tissues" if labelled else "none")
    if store.panel:
        table.add_row("channels (* nuclear)", escape(", ".join(channels)))
    return table


def class_share_table(store: TissueStore) -> Table:
    """Share of pixels and number of instances of every class, in the tissues that have labels."""
    labelled = [tissue for tissue in store.tissues if store.labelled(tissue)]
    pixels = store.class_pixels(labelled)
    counted = [store.attributes(t)["instances_per_class"] for t in labelled]
    instances = np.array(counted).reshape(-1, len(store.classes) + 1).sum(axis=0)
    total = max(1, sum(store.entry(t).height * store.entry(t).width for t in labelled))
    table = Table("id", "class", "pixels", "instances")
    rows = [(c.id, c.name, pixels[c.id], instances[c.id]) for c in store.classes]
    if labelled and (ignored := total - pixels.sum()):
        rows.append((IGNORE, "unknown or ignored", ignored, instances[-1]))
    for index, name, covered, found in rows:
        table.add_row(
            str(index), escape(name), f"{covered / total:.1%}", str(found) if index else ""
        )
    return table


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
        "\ncells": [_count(row["cells"]) for row in rows],
        "\nclasses": [_count(row["classes"]) for row in rows],
        f"median\n{unit}": [_number(row["median_diameter"]) for row in rows],
        f"H&E–SP\n{unit}": [_number(row["he_sp_shift"]) for row in rows],
        f"masks\n{unit}": [_number(row["mask_shift"]) for row in rows],
        "warn-\nings": [str(row["warnings"] or "") for row in rows],
    }


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
