"""What counts as a number in a configuration, and what the refusal of another value says."""

import math

import pytest

from tissueseg.errors import ConfigError
from tissueseg.numbers import check_number, check_whole, is_number, is_whole

NO_NUMBERS = [True, False, None, "3", "abc", [3], {"a": 3}, 3j]


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan, math.inf, -math.inf])
def test_bools_words_and_what_is_not_finite_are_no_numbers(value: object) -> None:
    assert not is_number(value)
    assert not is_whole(value)


def test_a_fraction_is_a_number_but_not_a_whole_one() -> None:
    assert is_number(2.0)
    assert not is_whole(2.0)
    assert is_number(2)
    assert is_whole(2)


def test_a_whole_number_may_be_longer_than_any_float() -> None:
    assert is_whole(10**400, 0)
    assert is_number(-(10**400))


@pytest.mark.parametrize("decide", [is_number, is_whole])
def test_limits_belong_to_what_is_allowed(decide) -> None:
    assert decide(1, 1, 3)
    assert decide(3, 1, 3)
    assert not decide(0, 1, 3)
    assert not decide(4, 1, 3)
    assert decide(-9, highest=3)
    assert decide(9, lowest=1)


def test_what_fits_is_returned() -> None:
    assert check_whole("folds", 3, 1, 3) == 3
    number = check_number("val", 1, lowest=0, below=2)
    assert number == 1.0
    assert isinstance(number, float)


@pytest.mark.parametrize(
    ("value", "highest", "message"),
    [
        (0, None, "folds=0, wanted a whole number of at least 1."),
        (4, 3, "folds=4, wanted a whole number of at least 1 and at most 3."),
        (2.0, None, "folds=2.0, wanted a whole number of at least 1."),
        (True, None, "folds=true, wanted a whole number of at least 1."),
        (None, None, "folds=null, wanted a whole number of at least 1."),
    ],
)
def test_the_refusal_of_a_whole_number_names_key_value_and_limits(value, highest, message) -> None:
    with pytest.raises(ConfigError) as refused:
        check_whole("folds", value, 1, highest)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        ("abc", {}, "lr=abc, wanted a finite number."),
        (math.nan, {"lowest": 0}, "lr=nan, wanted a finite number ≥ 0."),
        (0, {"above": 0}, "lr=0, wanted a finite number > 0."),
        (1.0, {"lowest": 0, "below": 1}, "lr=1.0, wanted a finite number ≥ 0 and < 1."),
        (False, {"lowest": 0, "highest": 1}, "lr=false, wanted a number 0 … 1."),
        (
            -1,
            {"above": 0, "note": "null for none"},
            "lr=-1, wanted a finite number > 0 (null for none).",
        ),
    ],
)
def test_the_refusal_of_a_number_says_its_limits_and_a_note(value, limits, message) -> None:
    with pytest.raises(ConfigError) as refused:
        check_number("lr", value, **limits)
    assert str(refused.value) == message
