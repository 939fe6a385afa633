"""The page of a study: whole, closed in itself, safe to open and true to its numbers."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from reports_made import COLORS, EVIL, KEY, interval, report

from tissueseg.reporting.study.page import study_page

VOID = {"meta", "img"}
SECTIONS = [
    "Ranking",
    "Classes",
    "Learning curves",
    "Predicted and true share of classes",
    "Confusion",
    "Calibration",
    "Best, median and worst tissue",
    "Cost",
    "Provenance",
]


class Balanced(HTMLParser):
    """Raises where an element is closed that is not the last one opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "data", "srcset") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text: str) -> Balanced:
    found = Balanced()
    found.feed(text)
    found.close()
    assert not found.open
    return found


def section(text: str, title: str) -> str:
    """Words of a section, without their tags."""
    after = text.split(f"<h2>{title}</h2>")[1].split("<h2>")[0]
    return unescape(re.sub(r"<[^>]+>", " ", after))


def without_all(made, **parts):
    return replace(made, runs=[replace(run, **parts) for run in made.runs])


@pytest.mark.parametrize("arms", [1, 2, 3, 12, 13])
def test_the_page_is_well_formed_and_every_chart_is_xml(tmp_path, arms):
    text = study_page(report(tmp_path, arms))
    assert re.findall("<h2>(.*?)</h2>", text) == SECTIONS
    assert parsed(text).seen.count("main") == 1
    charts = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(charts) >= 7
    assert all(ElementTree.fromstring(chart).tag == "svg" for chart in charts)


def test_nothing_is_loaded_and_nothing_runs(tmp_path):
    text = study_page(report(tmp_path))
    page = parsed(text)
    assert "script" not in page.seen
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import", text)


def test_names_are_shown_as_they_are_written(tmp_path):
    text = study_page(report(tmp_path))
    assert EVIL not in text
    assert escape(EVIL) in text
    assert escape("<the baseline>") in text


def test_the_conclusion_stands_above_cautions_and_random_parts_are_loud(tmp_path):
    text = study_page(report(tmp_path))
    head = text.split("<h2>")[0]
    places = [head.index(f'class="{css}"') for css in ("conclusion", "loud", "notices")]
    assert places == sorted(places)
    assert "virtues came from no checkpoint in all arms" in head
    assert "cellvit came" not in head
    for caution in ("two commits", "seed 7 lacks a fold", "slots/0/1: CUDA out of memory"):
        assert caution in head


def test_trained_encoders_are_not_loud(tmp_path):
    assert 'class="loud"' not in study_page(without_all(report(tmp_path), environment={}))


def test_the_ranking_has_every_number_of_the_comparison(tmp_path):
    words = section(study_page(report(tmp_path)), "Ranking")
    for number in (
        ".560",
        "[.510, .610]",
        ".014",
        "+.060",
        "[+.040, +.080]",
        ".250",
        "+1.50",
        "75.0 %",
    ):
        assert number in words
    assert "pooled over all pixels of the test tissues" in words
    assert "could give no p below .125" in words
    assert "no difference, however large" in words
    assert "guessing: .031" in words


def test_all_pairs_are_shown_of_three_to_twelve_arms_both_ways(tmp_path):
    shown = {arms: "All pairs" in study_page(report(tmp_path, arms)) for arms in (1, 2, 3, 12, 13)}
    assert shown == {1: False, 2: False, 3: True, 12: True, 13: False}
    words = section(study_page(report(tmp_path)), "Ranking").split("All pairs")[1]
    assert "+.030 (p = .250)" in words
    assert "−.060 (p = .250)" in words


def test_classes_have_their_colours_and_what_does_not_occur_is_a_dash(tmp_path):
    text = study_page(report(tmp_path))
    assert all(
        f"background:{color}" in text and f"fill:{color}" in text for color in COLORS.values()
    )
    rows = text.split("<h2>Classes</h2>")[1].split("<h2>")[0].split("<tr>")
    (never,) = (row for row in rows if "never</span></td>" in row)
    assert never.count('class="n">–<') == 3
    assert any(".530 [.480, .580]" in row for row in rows)


def test_names_and_digests_are_not_broken_and_words_are(tmp_path):
    runs = study_page(report(tmp_path)).split("<h2>Provenance</h2>")[1]
    assert '<span class="whole">f1f2f3f4f5f6</span>' in runs
    assert "<td>arm 1 of a study with a rather long name</td>" in runs


def test_shares_and_confusion_are_those_of_the_counts(tmp_path):
    text = study_page(report(tmp_path))
    assert "12.0 % 15.0 % (×1.25)" in " ".join(section(text, SECTIONS[3]).split())
    first = section(text, "Confusion").split("pixels")[1].split()
    assert first[:6] == ["background", "88", "6", "6", "0", "640"]


def test_an_arm_of_other_classes_is_matched_by_their_names(tmp_path):
    made = report(tmp_path)
    last = made.ranking.arms[-1].arm
    names = ["background", "never", "tumor", "new"]
    runs = [
        replace(run, metrics=run.metrics | {"classes": names}) if run.arm == last else run
        for run in made.runs
    ]
    words = " ".join(section(study_page(replace(made, runs=runs)), SECTIONS[3]).split())
    assert "tumor 12.0 % 15.0 % (×1.25) 15.0 % (×1.25) 9.0 % (×1.12)" in words
    assert "new 0.0 % – – 0.0 %" in words
    assert "Arms saw other tissues" in words


def test_calibration_is_shown_of_the_summed_bins(tmp_path):
    words = " ".join(section(study_page(report(tmp_path)), "Calibration").split())
    assert "pixels 400 .100 .420" in words


def test_pictures_have_their_run_and_score(tmp_path):
    made = report(tmp_path)
    text = study_page(made)
    words = section(text, SECTIONS[6])
    assert re.findall("(best|median|worst): (t0a|t0b|t1a|t1b)", words) == [
        ("best", "t0b"),
        ("median", "t1b"),
        ("worst", "t1a"),
    ]
    assert len(re.findall("<img", text)) == 9
    assert "fold 0, seed 0" in words


def test_cost_has_middles_and_the_largest(tmp_path):
    words = section(study_page(report(tmp_path)), "Cost")
    for shown in ("123,456", "123,000", "13 ms", "90 s", "1.5 GB (process)"):
        assert shown in words


def test_every_run_says_where_it_came_from(tmp_path):
    made = report(tmp_path)
    text = study_page(made)
    words = section(text, "Provenance")
    assert words.count("commit: 560a201ca252-dirty") == words.count("560a201ca252-dirty") == 1
    assert words.count("f1f2f3f4f5f6") == len(made.runs) == 12
    for shown in ("f1f2f3f4f5f6", "6345cc75d141", "1 × NVIDIA H200", "torch 2.13.0", made.command):
        assert shown in words
    assert f"train +study=made name={EVIL}" in words


@pytest.mark.parametrize(
    ("missing", "title", "line"),
    [
        ("history", "Learning curves", "no run kept its history"),
        ("confusion", "Confusion", "no run kept its confusion counts of test"),
        ("cost", "Cost", "no run measured what it cost"),
        ("panels", SECTIONS[6], "no run drew a tissue of test"),
        ("metrics", "Calibration", "no run counted"),
    ],
)
def test_what_runs_did_not_leave_is_said_in_a_line(tmp_path, missing, title, line):
    text = study_page(without_all(report(tmp_path), **{missing: {}}))
    parsed(text)
    assert line in section(text, title)


def test_one_arm_of_one_seed_with_nothing_defined_is_a_page(tmp_path):
    made = report(tmp_path, arms=1, seeds=1)
    (result,) = made.ranking.arms
    undefined = replace(
        result, interval=interval(math.nan, math.nan, "nothing"), by_seed=(math.nan,), seeds=(0,)
    )
    made = replace(made, ranking=replace(made.ranking, arms=(undefined,)))
    words = section(study_page(made), "Ranking")
    assert "None is defined" in words
    assert "permutation" not in words


def test_a_report_without_any_run_is_a_page(tmp_path):
    text = study_page(replace(report(tmp_path), runs=[], by_class={}))
    assert "no run kept its history" in text
    parsed(text)


def test_a_measure_of_the_validation_side_reads_that_side(tmp_path):
    made = report(tmp_path)
    measure = replace(made.ranking.measure, key=KEY.replace("test", "val"))
    text = study_page(replace(made, ranking=replace(made.ranking, measure=measure)))
    assert "no run kept its confusion counts of val" in section(text, "Confusion")


def test_an_arm_whose_runs_have_no_rank_is_still_shown(tmp_path):
    made = report(tmp_path)
    stray = replace(made.runs[0], arm="stray", place="stray/0/0")
    text = study_page(replace(made, runs=[*made.runs, stray]))
    assert all("stray" in section(text, title) for title in ("Provenance", "Cost"))
