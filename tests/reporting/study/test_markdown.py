"""The report as Markdown: aligned tables, and names that cannot break them."""

from __future__ import annotations

import re
from dataclasses import replace

from reports_made import EVIL, report

from tissueseg.reporting.study.markdown import (
    markdown_table,
    study_markdown,
)
from tissueseg.reporting.study.rows import Rows


def cells(line: str) -> list[str]:
    """Cells of a row, split at pipes that are not escaped."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_columns_are_aligned_and_figures_stand_to_the_right():
    rows = Rows(("arm", "n"), [["a|b", "12"], ["c", "345"]], range(1, 2))
    assert markdown_table(rows).splitlines() == [
        "| arm  |   n |",
        "| ---- | --: |",
        "| a\\|b |  12 |",
        "| c    | 345 |",
    ]


def test_every_row_of_every_table_has_as_many_cells_as_its_head(tmp_path):
    tables = re.findall(r"(?:^\|.*\|\n)+", study_markdown(report(tmp_path)), re.MULTILINE)
    assert len(tables) == 6
    for table in tables:
        lines = table.splitlines()
        assert {len(cells(line)) for line in lines} == {len(cells(lines[0]))}
        assert len({len(line) for line in lines}) == 1


def test_sections_come_in_order_below_the_conclusion(tmp_path):
    text = study_markdown(report(tmp_path))
    titles = [title.split(" with ")[0] for title in re.findall("^## (.*)", text, re.MULTILINE)]
    assert titles == [
        "Ranking",
        "Compared",
        "All pairs",
        "Classes",
        "Cost",
        "Provenance",
        "Notes",
    ]
    head = text.split("## ")[0]
    assert "**No decoder can be told apart from \\<the baseline\\>.**" in head
    assert "RANDOM ENCODER WEIGHTS: virtues" in head


def test_the_ranking_has_its_numbers(tmp_path):
    lines = study_markdown(report(tmp_path)).splitlines()
    first = next(cells(line) for line in lines if line.startswith("| 1 "))
    assert first[2:] == [
        ".560", "[.510, .610]", ".014", "+.060", "[+.040, +.080]", ".250", "+1.50", "75.0 %", "a",
    ]  # fmt: skip


def test_names_neither_open_html_nor_close_a_cell(tmp_path):
    text = study_markdown(report(tmp_path))
    unfenced = re.sub("`[^`]*`", "", text)
    assert EVIL not in unfenced
    assert not re.search(r"(?<!\\)<", unfenced)


def test_names_with_underscores_and_intervals_read_as_they_are():
    rows = Rows(("x",), [["a_name [.5, −.1] [x](y) _z_"]], range(0))
    shown = markdown_table(rows)
    assert r"a_name [.5, −.1] \[x\](y) \_z\_" in shown


def test_a_command_with_backticks_stays_code(tmp_path):
    text = study_markdown(replace(report(tmp_path), command="report `date`"))
    assert "This report: `` report `date` ``" in text


def test_one_arm_without_runs_or_classes_has_no_empty_tables(tmp_path):
    text = study_markdown(replace(report(tmp_path, arms=1), by_class={}))
    assert "## Compared" not in text
    assert "## Classes" not in text
