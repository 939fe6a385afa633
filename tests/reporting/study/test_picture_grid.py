"""Arms beside one another: inputs and truth once, and what every arm made of them."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import numpy as np
from reports_made import CLASSES, EVIL, report

from tissueseg.drawing import save_sheet, sheet
from tissueseg.modules.panels import ERRORS
from tissueseg.reporting.study.picture_grid import pictures
from tissueseg.reporting.study.pictures import PICTURE_PX, choose_pictures


def plain(value: int, width: int = 40) -> np.ndarray:
    return np.full((30, width, 3), value, np.uint8)


def drawn(made, width: int = 40, arms=None, **more):
    """The report with sheets that say where their pictures lie; `more` of the first arm alone.

    Args:
        made: the report.
        width: of pictures, px.
        arms: that have such sheets; all.
        more: title -> value of a picture.
    """
    runs = []
    for i, run in enumerate(made.runs):
        parts = {
            "truth": plain(1, width),
            "H&E": plain(2, width),
            "prediction": plain(10 + i, width),
        }
        parts |= {title: plain(v, width) for title, v in more.items() if run.arm == EVIL}
        told = arms is None or run.arm in arms
        paths = {t: p.with_name(f"{i}{p.name}") if told else p for t, p in run.panels.items()}
        for path in paths.values() if told else ():
            save_sheet(sheet(parts | {"error": plain(235, width)}, ()), path)
        runs.append(replace(run, panels=paths))
    return replace(made, runs=runs)


def words(text: str) -> list[str]:
    return [word for part in re.split("<[^>]+>", text) if (word := unescape(part).strip())]


def test_what_arms_have_alike_is_read_once_and_truth_stands_behind_inputs(tmp_path):
    for tissue in choose_pictures(drawn(report(tmp_path))).tissues:
        assert list(tissue.shared) == ["H&E", "truth"]
        assert [list(panel.pictures) for panel in tissue.panels] == [["prediction", "error"]] * 3
        assert all(panel.sheet is None for panel in tissue.panels)
        values = {int(panel.pictures["prediction"][0, 0, 0]) for panel in tissue.panels}
        assert len(values) == 3


def test_inputs_of_one_arm_are_shown_beside_the_others(tmp_path):
    tissue = choose_pictures(drawn(report(tmp_path), SP=7, boundary=8)).tissues[0]
    assert list(tissue.shared) == ["H&E", "SP", "truth"]
    own = {panel.arm: list(panel.pictures) for panel in tissue.panels}
    assert own.pop(EVIL) == ["prediction", "error", "boundary"]
    assert list(own.values()) == [["prediction", "error"]] * 2


def test_a_truth_of_its_own_stays_with_its_arm(tmp_path):
    tissue = choose_pictures(drawn(report(tmp_path), truth=99)).tissues[0]
    assert int(tissue.shared["truth"][0, 0, 0]) == 1
    own = {panel.arm: panel.pictures for panel in tissue.panels}
    assert int(own[EVIL]["truth"][0, 0, 0]) == 99
    assert all("truth" not in found for arm, found in own.items() if arm != EVIL)


def test_pictures_keep_their_size_up_to_a_limit(tmp_path):
    small = choose_pictures(drawn(report(tmp_path / "a"), 50)).tissues[0]
    large = choose_pictures(drawn(report(tmp_path / "b"), 900)).tissues[0]
    assert small.shared["truth"].shape == (30, 50, 3)
    assert large.shared["truth"].shape == (11, PICTURE_PX, 3)


def test_the_page_shows_inputs_once_and_a_column_for_every_arm(tmp_path):
    text = "".join(pictures(drawn(report(tmp_path))))
    assert text.count('alt="truth"') == text.count('alt="H&amp;E"') == 3
    assert text.count('class="arms"') == 3
    assert len(re.findall(r'alt="[^"]*: prediction"', text)) == 9
    assert text.count("<img") == 3 * (2 + 3 * 2)
    first = text.split("<h3>")[1]
    assert unescape(first).index(f"{EVIL}</b> .600 (fold 0, seed 0)") > first.index('class="arms"')
    assert "its prediction and its error" in text


def test_the_legend_has_the_classes_that_occur_and_the_errors(tmp_path):
    made = drawn(report(tmp_path))
    shown = words("".join(pictures(made)))
    assert {"tumor", CLASSES[2], *ERRORS} <= set(shown)
    assert not {"never", "background", "ignored"} & set(shown)
    uncounted = replace(made, runs=[replace(run, confusion={}) for run in made.runs])
    assert "never" in words("".join(pictures(uncounted)))


def test_pixels_that_are_not_judged_are_in_the_legend(tmp_path):
    made = drawn(report(tmp_path))
    unknown = plain(235)
    unknown[:9] = 255
    for run in made.runs:
        for path in run.panels.values():
            save_sheet(sheet({"prediction": plain(1), "error": unknown}, ()), path)
    assert "ignored" in words("".join(pictures(made)))


def test_sheets_that_name_no_pictures_stand_below_those_that_do(tmp_path):
    made = report(tmp_path)
    text = "".join(pictures(drawn(made, arms={run.arm for run in made.runs} - {EVIL})))
    assert text.count('class="panel"') == 3
    for tissue in text.split("<h3>")[1:]:
        assert tissue.index('class="arms"') < tissue.index('class="panel"')
        assert tissue.count("<img") == 2 + 2 * 2 + 1
