"""A whole store: healthy ones are silent, large ones are read by window, rows say what was found."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tissueseg.errors import TissueDataError
from tissueseg.inspection.overview import inspect_store, inspect_tissues
from tissueseg.inspection.summary import summary_rows, summary_table, write_summary
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Tissue, Window
from tissueseg.store.tissues import TissueStore

from .conftest import Write


def healthy(write: Write, drawn: tuple[Tissue, ...]) -> TissueStore:
    """Classes merged to one, which every patient has."""
    cells = [t._replace(classes=(t.instances > 0).astype(np.uint8)) for t in drawn]
    classes = write({"x": drawn[0]}).classes[:2]
    return write(dict(zip("abc", cells, strict=True)), classes=classes)


def test_a_healthy_store_is_silent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    assert list(inspect_store(healthy(write, drawn))) == []


def test_every_tissue_is_tracked_and_warnings_come_first(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    assert drawn[0].he is not None
    tracked: list[str] = []

    def track(names):
        for name in names:
            tracked.append(name)
            yield name

    dark = [t._replace(he=t.he // 9, patient=None) for t in drawn]  # pyright: ignore[reportOptionalOperand]
    store = write(dict(zip("abc", dark, strict=True)))
    found = inspect_tissues(store, track)
    assert tracked == ["a", "b", "c"]
    levels = [finding.level for finding in found.findings]
    assert levels == sorted(levels, key=("warning", "notice").index)
    (black,) = [f for f in found.findings if f.check == "H&E"]
    assert black.says.startswith("nearly black H&E in tissues a, b, c")
    assert all("\n" not in finding.says for finding in found.findings)
    assert found.warnings["a"] >= 1


def test_large_tissues_are_read_by_window_and_masks_once(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = np.zeros((300, 4200), np.int32)
    instances[10:30, ::40], instances[10:30, 1::40] = 1, 1
    instances[10:30] *= np.arange(1, 4201, dtype=np.int32)[None] // 40 + 1
    classes = (instances > 0).astype(np.uint8)
    store = write({"a": Tissue(instances, classes, np.zeros((3, 300, 4200), np.uint8))})
    windows: list[tuple[str, Window]] = []
    read = store.read

    def spied(tissue: str, array: str, window: Window) -> np.ndarray:
        windows.append((array, window))
        return read(tissue, array, window)

    monkeypatch.setattr(store, "read", spied)
    inspect_tissues(store)
    assert max(max(w.height, w.width) for _, w in windows) == 2048
    seen = Counter(w for array, w in windows if array == CLASSES)
    assert sorted(seen.values()) == [1, 1, 1]
    assert sum(w.height * w.width for w in seen) == 300 * 4200
    assert max(w.width for array, w in windows if array == "he") <= 1024
    assert INSTANCES in {array for array, _ in windows}


def test_rows_say_what_was_found(write: Write, drawn: tuple[Tissue, ...], tmp_path: Path) -> None:
    nothing = 0 * drawn[2].instances
    empty = drawn[2]._replace(instances=nothing, classes=nothing, split="test")
    store = write({"a": drawn[0], "[b]": empty})
    rows = summary_rows(store, inspect_tissues(store))
    by_name = {row["tissue"]: row for row in rows}
    assert by_name["a"]["cells"] == len(np.unique(drawn[0].instances)) - 1
    assert by_name["a"]["cells"] == sum(
        v for k, v in by_name["a"].items() if k.startswith("cells_")
    )
    assert 5 < by_name["a"]["median_diameter"] < 9
    assert by_name["a"]["he_sp_shift"] < 0.2
    assert by_name["[b]"]["warnings"] == 1
    assert (by_name["[b]"]["split"], by_name["[b]"]["median_diameter"]) == ("test", None)
    write_summary(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["tissue"] for row in read] == ["[b]", "a"]
    assert read[0]["he_sp_shift"] == ""
    with pytest.raises(TissueDataError, match=r"cannot write the summary .*missing"):
        write_summary(tmp_path / "missing" / "rows.csv", rows)


def test_the_table_shows_the_first_rows_and_those_that_warn(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    store = healthy(write, drawn)
    inspection = inspect_tissues(store)
    inspection.warnings["c"] = 2
    console = Console(width=80)
    with console.capture() as capture:
        console.print(summary_table(summary_rows(store, inspection), shown=2))
    lines = [line.split() for line in capture.get().splitlines() if line.strip()]
    cells = {t: str(inspection.tissues[t].masks.instances) for t in "ac"}
    assert lines[1][:2] == ["tissue", "patient"]
    assert lines[3][:5] == ["c", "p_2", "256×256", cells["c"], "1"]
    assert lines[3][-1] == "2"
    assert lines[4][:5] == ["a", "p_0", "256×256", cells["a"], "1"]
    assert lines[5] == ["…", "1", "more"]


def test_tissues_that_are_their_own_patients_need_no_column(
    write: Write, drawn: tuple[Tissue, ...]
) -> None:
    store = write({"a": drawn[0]._replace(patient=None)})
    table = summary_table(summary_rows(store, inspect_tissues(store)))
    assert [column.header for column in table.columns][:2] == ["\ntissue", "size\npx"]
