"""Charts of a report: what they draw stands where the numbers say."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from tissueseg.reporting.study.charts import Estimate
from tissueseg.reporting.study.class_charts import class_bars, share_ratios
from tissueseg.reporting.study.figures import Curves, curves, forest, reliability
from tissueseg.reporting.study.from_runs import Bins, Curve

ROWS = [Estimate("a", 0.6, 0.5, 0.7, (0.58, 0.62)), Estimate("b", 0.5, 0.4, 0.6, (0.5,))]


def marks(drawn: str, tag: str, css: str | None = None) -> list[ElementTree.Element]:
    found = ElementTree.fromstring(drawn).iter(tag)
    return [mark for mark in found if css is None or mark.get("class") == css]


def words(drawn: str) -> list[str]:
    return [mark.text or "" for mark in marks(drawn, "text")]


def test_a_forest_has_a_point_an_interval_and_every_seed():
    drawn = forest(ROWS, "b", math.nan, "dice")
    points = [float(mark.get("cx", "nan")) for mark in marks(drawn, "circle", "fill")]
    assert points[0] > points[1]
    assert len(marks(drawn, "circle", "seed")) == 3
    wide = marks(drawn, "line", "stroke")[0]
    middle = (float(wide.get("x1", "nan")) + float(wide.get("x2", "nan"))) / 2
    assert middle == pytest.approx(points[0], abs=0.1)


def test_a_forest_marks_the_baseline():
    drawn = forest(ROWS, "b", math.nan, "dice")
    guide = marks(drawn, "line", "guide")
    point = marks(drawn, "circle", "fill")[1]
    assert [mark.get("x1") for mark in guide] == [point.get("cx")]
    assert "b (baseline)" in words(drawn)


def test_an_arm_that_is_called_baseline_is_not_told_twice():
    drawn = forest([ROWS[0], ROWS[1]._replace(name="baseline")], "baseline", math.nan, "dice")
    assert "baseline" in words(drawn)
    assert len(marks(drawn, "line", "guide")) == 1


def test_crowded_powers_of_two_are_named_every_other():
    far, near = (
        words(share_ratios(["a"], [0.1], np.array([[ratio]]), ["arm"])) for ratio in (30.0, 4.0)
    )
    assert {"1/16", "1/4", "1", "4", "16"} <= set(far)
    assert not {"1/2", "2", "8"} & set(far)
    assert {"1/4", "1/2", "1", "2", "4"} <= set(near)


def test_a_near_guess_is_a_line_and_a_far_one_an_arrow_that_leaves_the_scale_alone():
    near, far = (forest(ROWS, "b", guess, "dice") for guess in (0.35, -9.0))
    assert len(marks(near, "line", "guide")) == 2
    assert "guessing: .350 (dashed)" in words(near)
    assert len(marks(far, "line", "guide")) == 1
    assert "← guessing: −9.00" in words(far)
    points = [
        [mark.get("cx") for mark in marks(drawn, "circle", "fill")]
        for drawn in (far, forest(ROWS, "b", math.nan, "dice"))
    ]
    assert points[0] == points[1]


def test_an_undefined_arm_is_a_dash_in_a_forest():
    nan = math.nan
    drawn = forest([Estimate("a", nan, nan, nan, (nan,))], "a", nan, "dice")
    assert "–" in words(drawn)
    assert not marks(drawn, "circle")


def test_bars_are_as_high_as_scores_and_missing_classes_are_dashes():
    classes = {"x": ROWS, "never": [Estimate("a", math.nan, math.nan, math.nan)]}
    drawn = class_bars(classes, ["a", "b"], {"x": "#ff0000"})
    bars = [mark for mark in marks(drawn, "rect") if not mark.get("style")]
    heights = [float(mark.get("height", "nan")) for mark in bars]
    assert heights[0] / heights[1] == pytest.approx(0.6 / 0.5, abs=0.01)
    assert words(drawn).count("–") == 2
    assert len(marks(drawn, "line", "whisker")) == 2
    assert [m.get("style") for m in marks(drawn, "rect")[2:]] == [
        "fill:#ff0000",
        "fill:var(--soft)",
    ]


def test_a_curve_lies_within_its_band_and_has_its_kept_epochs():
    epochs = np.arange(3.0)
    curve = Curve(
        epochs, np.array([1.0, 0.5, 0.4]), np.array([0.8, 0.4, 0.3]), np.array([1.2, 0.6, 0.5])
    )
    drawn = curves(Curves("loss", {3: curve}, {3: [(1.0, 0.45)]}))
    band = [float(p.split(",")[1]) for p in marks(drawn, "polygon")[0].get("points", "").split()]
    mean = [float(p.split(",")[1]) for p in marks(drawn, "polyline")[0].get("points", "").split()]
    tops, bottoms = band[:3], band[:2:-1]
    assert all(t < m < b for t, m, b in zip(tops, mean, bottoms, strict=True))
    assert len(marks(drawn, "circle", "kept")) == 1
    assert marks(drawn, "g")[0].get("class") == "a3 d0"


def test_a_run_of_one_epoch_is_drawn():
    one = np.array([0.5])
    drawn = curves(Curves("loss", {0: Curve(np.array([0.0]), one, one, one)}, {0: [(0.0, 0.5)]}))
    assert len(marks(drawn, "circle", "kept")) == 1


def test_a_class_predicted_twice_as_often_lies_as_far_right_as_one_half_as_often_left():
    ratios = np.array([[1.0, 2.0, 0.5, math.nan]])
    drawn = share_ratios(["a", "b", "c", "d"], [0.7, 0.2, 0.1, 0.0], ratios, ["arm"])
    one, twice, half = (float(mark.get("cx", "nan")) for mark in marks(drawn, "circle"))
    assert twice - one == pytest.approx(one - half, abs=0.2)
    assert twice > one


def test_a_class_never_predicted_is_a_triangle_on_the_left():
    drawn = share_ratios(["a"], [0.1], np.array([[0.0]]), ["arm"])
    points = [
        tuple(map(float, p.split(",")))
        for p in marks(drawn, "polygon")[0].get("points", "").split()
    ]
    assert points[2][0] < points[0][0]
    assert not marks(drawn, "circle")


def test_a_reliability_diagram_leaves_out_empty_bins():
    bins = Bins(np.array([0, 9.0]), np.array([math.nan, 0.8]), np.array([math.nan, 0.8]), 0, 0)
    drawn = reliability({0: bins}, "pixels")
    (point,) = marks(drawn, "circle")
    diagonal = marks(drawn, "line", "guide")[0]
    x, y = (float(point.get(key, "nan")) for key in ("cx", "cy"))
    x1, x2, y1, y2 = (float(diagonal.get(key, "nan")) for key in ("x1", "x2", "y1", "y2"))
    assert (x - x1) / (x2 - x1) == pytest.approx((y - y1) / (y2 - y1), abs=0.01)
