"""Tables of a store: what is in it, and one row a tissue."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from stores import CLASSES, random_tissue, write_store

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.reporting.store_tables import (
    class_share_table,
    store_table,
    summary_table,
    write_summary,
)


def row(tissue: str, **values: Any) -> dict[str, Any]:
    plain = {
        "tissue": tissue,
        "patient": tissue,
        "height_px": 64,
        "width_px": 48,
        "unit": "µm",
        "cells": 12,
        "classes": 2,
        "median_diameter": 6.25,
        "he_sp_shift": None,
        "mask_shift": 0.0,
        "warnings": 0,
    }
    return plain | values


def lines(table: Table, width: int = 80) -> list[list[str]]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return [line.split() for line in capture.get().splitlines() if line.strip()]


def test_the_table_shows_the_first_rows_and_those_that_warn() -> None:
    rows = [row("a", patient="p_a"), row("b"), row("[c]", warnings=2)]
    shown = lines(summary_table(rows, shown=2))
    assert shown[1][:2] == ["tissue", "patient"]
    assert shown[3] == ["[c]", "[c]", "64×48", "12", "2", "6.2", "–", "0.0", "2"]
    assert shown[4] == ["a", "p_a", "64×48", "12", "2", "6.2", "–", "0.0"]
    assert shown[5] == ["…", "1", "more"]


def test_tissues_that_are_their_own_patients_need_no_column() -> None:
    table = summary_table([row("a"), row("b")])
    assert [column.header for column in table.columns][:2] == ["\ntissue", "size\npx"]


def test_rows_are_written_for_a_spreadsheet(tmp_path: Path) -> None:
    rows = [row("[b]"), row("a", warnings=3)]
    write_summary(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [r["tissue"] for r in read] == ["[b]", "a"]
    assert (read[0]["he_sp_shift"], read[1]["warnings"]) == ("", "3")
    with pytest.raises(TissueDataError, match=r"cannot write the summary .*missing"):
        write_summary(tmp_path / "missing" / "rows.csv", rows)


def test_what_is_in_a_store_is_said_with_brackets_and_all(tmp_path: Path) -> None:
    tissue = random_tissue(height=64, width=32)
    classes = tissue.classes.copy()
    classes[tissue.instances == tissue.instances.max()] = IGNORE
    table = [*CLASSES[:2], replace(CLASSES[2], name="[red]immune")]
    store = write_store(
        tmp_path / "[1].zarr",
        {"a": tissue._replace(classes=classes, patient="p"), "b": tissue._replace(patient="p")},
        classes=table,
    )
    text = [" ".join(line) for line in lines(store_table(store), 400)]
    assert any("[1].zarr" in line for line in text)
    assert any("tissues │ 2, patients 1" in line for line in text)
    assert any("64 × 32 px at 0.5 µm/px" in line for line in text)
    assert any("DAPI* P68431, CD3 P07766" in line for line in text)
    shares = [" ".join(line) for line in lines(class_share_table(store))]
    assert any("2 │ [red]immune │" in line for line in shares)
    assert any(f"{IGNORE} │ unknown or ignored │ 0.9% │ 1 │" in line for line in shares)
