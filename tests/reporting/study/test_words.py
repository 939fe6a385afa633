"""How numbers are written."""

from __future__ import annotations

import math

import pytest
from reports_made import interval

from tissueseg.reporting.study.words import (
    clipped,
    difference_limits,
    limits_of,
    listed,
    number,
    p_value,
    seconds,
    share,
    span,
)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5124, ".512"),
        (-0.034, "−.034"),
        (0.0, ".000"),
        (0.9996, "1.00"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (1234.0, "1,234"),
        (0.00003, ".000"),
        (math.nan, "–"),
        (math.inf, "–"),
        (None, "–"),
    ],
)
def test_numbers_have_three_digits_and_no_leading_zero(value, words):
    assert number(value) == words


def test_differences_show_their_sign():
    assert [number(x, signed=True) for x in (0.03, -0.03, 0.0)] == ["+.030", "−.030", ".000"]
    assert [number(x, signed=True) for x in (0.0003, -0.0003)] == ["+.000", "−.000"]


@pytest.mark.parametrize(
    ("p", "words"), [(0.012, ".012"), (0.0002, "< .001"), (1.0, "1.00"), (math.nan, "–")]
)
def test_small_p_are_bounds(p, words):
    assert p_value(p) == words


def test_intervals_are_cut_at_what_scores_may_be_and_stay_where_there_is_no_bound():
    wide = interval(0.9, 0.3)
    assert span(wide, limits_of("test/dice/macro")) == "[.600, 1.00]"
    assert span(wide, limits_of("test/hv_mse_image")) == "[.600, 1.20]"
    assert span(interval(math.nan), (0, 1)) == "–"
    assert difference_limits("val/iou/macro") == (-1, 1)


def test_runs_that_were_all_alike_have_no_interval():
    assert span(interval(0.0, 0.0), (0, 1)) == "–"
    assert all(math.isnan(end) for end in clipped(interval(0.5, 0.0), (0, 1)))


def test_shares_and_times_have_units():
    assert [share(x) for x in (0.5, 0.001, 1e-6, 0.0)] == ["50.0 %", ".10 %", "< .01 %", "0.0 %"]
    assert [seconds(x) for x in (0.0123, 3.2, 600, 9000)] == ["12.3 ms", "3.2 s", "10 min", "2.5 h"]


def test_lists_read_as_one_says_them():
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
