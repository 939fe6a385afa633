"""Axes, marks and colours of charts."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from tissueseg.reporting.study.charts import (
    STYLE,
    Axis,
    arm_class,
    axis_of,
    bar,
    legend,
    svg,
    text,
    width_of,
    wrapped,
)


def test_an_axis_puts_values_between_its_ends_and_what_lies_beyond_at_the_nearer_one():
    axis = Axis(0.2, 0.6, 100, 300)
    assert axis.at(0.4) == pytest.approx(200)
    assert (axis.at(-5), axis.at(7)) == (100, 300)


def test_an_axis_may_run_upwards():
    assert Axis(0, 1, 190, 10).at(0.25) == pytest.approx(145)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.43, 0.61, [0.45, 0.5, 0.55, 0.6]),
        (-30, 70, [-20, 0, 20, 40, 60]),
    ],
)
def test_ticks_are_round_and_lie_within(low, high, ticks):
    assert Axis(low, high, 0, 1).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[], [math.nan], [0.5], [0.0, 0.0], [math.inf, 3.0]])
def test_an_axis_of_few_or_undefined_values_still_has_a_length(values):
    axis = axis_of(values, 0, 100)
    assert axis.low < axis.high
    assert math.isfinite(axis.low + axis.high)


def test_an_axis_holds_all_finite_values_with_room():
    axis = axis_of([0.3, math.nan, 0.9], 0, 100)
    assert axis.low < 0.3
    assert axis.high > 0.9


def test_words_in_a_chart_are_escaped():
    drawn = svg(10, 10, 'a "<b>"', [text(0, 0, "<&"), bar(0, 0, 1, 1, "<i>", 'fill:"x')])
    chart = ElementTree.fromstring(drawn)
    assert chart[0].get("aria-label") == 'a "<b>"'
    assert chart[0][0].text == "<&"
    assert chart[0][1].get("style") == 'fill:"x'


def test_long_names_are_wrapped_and_measured():
    lines = wrapped("a_name_without_any_space_in_it", 10)
    assert lines == ["a_name_wit", "hout_any_s", "pace_in_it"]
    assert width_of(lines) == 70
    assert wrapped("", 10) == [""]


def test_no_two_of_two_dozen_arms_look_alike_and_every_class_has_a_rule():
    classes = [arm_class(i) for i in range(24)]
    assert len(set(classes)) == 24
    for name in {name for pair in classes for name in pair.split()}:
        assert f".{name} {{" in STYLE


def test_twelve_arms_have_twelve_colours_on_light_and_on_dark():
    colors = re.findall(r"--c: (#\w+)", STYLE)
    assert len(colors) == 24
    assert len(set(colors[:12])) == len(set(colors[12:])) == 12


def test_a_legend_names_every_arm():
    shown = ElementTree.fromstring(legend(["a<b", "c"]))
    assert [key.findtext("svg") is not None and "".join(key.itertext()) for key in shown] == [
        "a<b",
        "c",
    ]
