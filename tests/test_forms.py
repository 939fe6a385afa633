from __future__ import annotations

from typing import Any

import pytest

from tissueseg.forms import NUMBER, TEXT, Columns, Each, Either, Form, Listed, Maybe, require

FORM: Form = {
    "name": TEXT,
    "epoch": int,
    "scores": Each(Maybe(float)),
    "classes": Listed({"id": int}),
    "fold": Either((str, NUMBER)),
    "bins": Columns(("low", "high"), float, {"mean": float}),
}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"name": None, "unknown": object()},
        {"name": "a", "epoch": 3, "scores": {"dice": 0.5, "pq": None, "n": 10**400 // 10**399}},
        {"classes": [{"id": 1}, {}], "fold": "1"},
        {"classes": (), "fold": 1},
        {"bins": {}},
        {"bins": {"low": [0.0, 0.5], "high": [0.5, 1], "mean": 1, "unknown": 3}},
    ],
)
def test_what_has_the_form_passes(found: Any) -> None:
    require(found, FORM)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "it is [], wanted keys with values"),
        ({"name": 3}, "name is 3, wanted text"),
        ({"epoch": True}, "epoch is True, wanted a whole number"),
        ({"epoch": 1.0}, "epoch is 1.0, wanted a whole number"),
        ({"scores": [1]}, "scores is [1], wanted keys with values"),
        ({"scores": {"dice": "x"}}, "scores.dice is 'x', wanted a number"),
        ({"scores": {"dice": float("nan")}}, "scores.dice is nan, wanted a number"),
        ({"scores": {"dice": 10**400}}, f"scores.dice is {'1' + '0' * 56}…, wanted a number"),
        ({"classes": "ab"}, "classes is 'ab', wanted a list"),
        ({"classes": [{}, {"id": "1"}]}, "classes[1].id is '1', wanted a whole number"),
        ({"bins": 3}, "bins is 3, wanted keys with values"),
        ({"bins": {"low": [1], "high": ["x"]}}, "bins.high[0] is 'x', wanted a number"),
        ({"bins": {"low": [1], "high": [1], "mean": []}}, "bins.mean is [], wanted a number"),
        (
            {"bins": {"low": [1], "mean": 1}},
            "bins has lists of {'low': 1, 'high': 0}, wanted them of one length",
        ),
        ({"fold": []}, "fold is [], wanted text or a number or null"),
    ],
)
def test_the_first_key_of_another_form_is_named(found: Any, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        require(found, FORM)
    assert str(caught.value) == says
