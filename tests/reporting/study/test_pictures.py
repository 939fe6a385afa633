"""Which panels are shown: best, median and worst tissue, and each arm's middle run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reports_made import panel, report

from tissueseg.reporting.study import picture_grid
from tissueseg.reporting.study.page import study_page
from tissueseg.reporting.study.pictures import choose_pictures


def test_tissues_are_shown_from_the_best_to_the_worst(tmp_path):
    choice = choose_pictures(report(tmp_path))
    assert [(t.role, t.tissue) for t in choice.tissues] == [
        ("best", "t0b"),
        ("median", "t1b"),
        ("worst", "t1a"),
    ]
    assert choice.tissues[0].score == pytest.approx((0.5 + 0.53 + 0.56) / 3 + 0.005 + 0.1)
    assert not choice.notes


def test_where_lower_is_better_the_best_is_the_lowest(tmp_path):
    made = report(tmp_path)
    measure = replace(made.ranking.measure, higher_is_better=False)
    choice = choose_pictures(replace(made, ranking=replace(made.ranking, measure=measure)))
    assert [t.tissue[-1] for t in choice.tissues] == ["a", "a", "b"]


def test_every_arm_shows_its_run_with_the_median_score(tmp_path):
    shown = choose_pictures(report(tmp_path, seeds=3)).tissues[0].panels
    assert [(p.fold, p.seed) for p in shown] == [("0", 1)] * 3
    assert [p.score for p in shown] == pytest.approx([0.67, 0.64, 0.61])


def test_one_tissue_is_shown_once(tmp_path):
    made = report(tmp_path)
    runs = [
        replace(run, panels={t: p for t, p in run.panels.items() if t == "t0a"})
        for run in made.runs
    ]
    choice = choose_pictures(replace(made, runs=runs))
    assert [(t.role, t.tissue) for t in choice.tissues] == [("best", "t0a")]
    assert choice.notes == ["3 of 4 tissues have no panels and were not considered."]


def test_an_arm_without_a_panel_is_named(tmp_path):
    made = report(tmp_path)
    first = made.ranking.arms[0].arm
    runs = [replace(run, panels={}) if run.arm == first else run for run in made.runs]
    assert all(t.without == [first] for t in choose_pictures(replace(made, runs=runs)).tissues)
    assert f"No panel of {first}." in study_page(replace(made, runs=runs))


def test_a_picture_that_cannot_be_read_is_named_and_the_rest_is_shown(tmp_path):
    made = report(tmp_path)
    made.runs[0].panels["t0b"].write_bytes(b"no picture")
    choice = choose_pictures(made)
    assert len(choice.notes) == 3
    assert "the panel of t0b cannot be read" in choice.notes[0]
    assert len(choice.tissues[1].panels) == 3


def test_wide_panels_are_shrunk_before_they_are_embedded(tmp_path):
    made = report(tmp_path)
    for run in made.runs:
        for path in run.panels.values():
            path.unlink(missing_ok=True)
            panel(path.parent, path.stem, 20, 2400)
    sheets = [p.sheet for t in choose_pictures(made).tissues for p in t.panels]
    assert {sheet.shape for sheet in sheets if sheet is not None} == {(10, 1200, 3)}
    assert len(sheets) == 9


def test_many_large_pictures_stay_below_what_can_be_mailed(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_grid, "PICTURES_BYTES", 60_000)
    made = report(tmp_path)
    for run in made.runs:
        for path in run.panels.values():
            path.unlink(missing_ok=True)
            panel(path.parent, path.stem, 200, 300)
    text = study_page(made)
    assert text.count("data:image/jpeg") == 9
    assert len(text) < len(study_page(replace(made, runs=[]))) + 200_000
