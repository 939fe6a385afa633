"""The report for machines: every number as it was computed."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import pytest
from reports_made import CLASSES, EVIL, KEY, interval, report

from tissueseg.reporting.study.tables import write_study_tables


def rows(folder, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made(tmp_path):
    return report(tmp_path / "panels")


@pytest.fixture
def folder(tmp_path, made):
    write_study_tables(tmp_path, made)
    return tmp_path


def test_all_five_files_are_written_and_named(tmp_path, made):
    paths = write_study_tables(tmp_path, made)
    assert [path.name for path in paths] == [
        "ranking.csv",
        "comparisons.csv",
        "classes.csv",
        "runs.csv",
        "report.json",
    ]
    assert all(path.stat().st_size > 0 for path in paths)


def test_the_ranking_is_exact(folder, made):
    found = rows(folder, "ranking.csv")
    assert [row["arm"] for row in found] == [result.arm for result in made.ranking.arms]
    for row, result in zip(found, made.ranking.arms, strict=True):
        assert float(row["score"]) == result.interval.estimate
        assert float(row["high"]) == result.interval.high
        assert json.loads(row["by_seed"]) == list(result.by_seed)
    assert found[0]["measure"] == KEY


def test_comparisons_say_their_family(folder, made):
    found = rows(folder, "comparisons.csv")
    assert [row["family"] for row in found] == ["baseline"] * 2 + ["all pairs"] * 3
    assert float(found[0]["difference"]) == made.ranking.against_baseline[0].difference.estimate
    assert [float(found[0][p]) for p in ("p_units", "p_runs", "p_both")] == [0.125, 0.0625, 0.03125]


def test_what_is_not_defined_is_empty_in_csv_and_null_in_json(folder):
    never = [row for row in rows(folder, "classes.csv") if row["class"] == "never"]
    assert [row["score"] for row in never] == [""] * 3
    assert json.loads(never[0]["by_seed"]) == [None, None]
    report_json = json.loads((folder / "report.json").read_text())
    assert [row["score"] for row in report_json["classes"]["never"]] == [None] * 3


def test_hostile_names_come_back_as_they_were(folder):
    assert {row["class"] for row in rows(folder, "classes.csv")} == set(CLASSES[1:])
    assert EVIL in {row["arm"] for row in rows(folder, "runs.csv")}


def test_every_run_has_its_provenance_and_cost(folder, made):
    found = rows(folder, "runs.csv")
    assert len(found) == len(made.runs)
    first = found[0]
    assert first["fingerprint"] == "f1f2f3f4f5f6f7f8"
    assert json.loads(first["random_init"]) == ["virtues"]
    assert json.loads(first["command"]) == made.runs[0].environment["command"]
    assert float(first["step_s"]) == made.runs[0].cost["step_s"]
    assert float(first["score"]) == pytest.approx(0.5)


def test_the_json_holds_the_whole_report(folder, made):
    found = json.loads((folder / "report.json").read_text())
    assert found["conclusion"] == made.conclusion
    assert found["measure"]["averaging"] == made.ranking.measure.averaging
    assert found["baseline"] == EVIL
    assert len(found["pairs"]) == 3
    assert found["ranking"][0]["score"] == made.ranking.arms[0].interval.estimate
    assert found["unfinished"] == [{"place": "slots/0/1", "why": "CUDA out of memory"}]
    assert found["notes"] == ["two commits", "seed 7 lacks a fold"]


def test_intervals_are_not_cut_for_machines(tmp_path, made):
    wide = replace(made.ranking.arms[0], interval=interval(0.9, 0.5))
    ranking = replace(made.ranking, arms=(wide, *made.ranking.arms[1:]))
    write_study_tables(tmp_path, replace(made, ranking=ranking))
    assert float(rows(tmp_path, "ranking.csv")[0]["high"]) == pytest.approx(1.4)


def test_one_arm_without_runs_is_written(tmp_path):
    made = replace(report(tmp_path / "panels", arms=1), runs=[], by_class={})
    write_study_tables(tmp_path, made)
    assert rows(tmp_path, "comparisons.csv") == []
    assert not math.isnan(float(rows(tmp_path, "ranking.csv")[0]["score"]))
