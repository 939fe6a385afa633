"""Errors of any library, said within a line of ours."""

from __future__ import annotations

import pytest

from tissueseg.errors import in_one_line

SAID = {
    "gone.": "gone",
    "it is\tgone.\n \n  Look elsewhere.\n": "it is gone. Look elsewhere",
    "What is wrong\nfull_key: a.b\nobject_type=dict": "What is wrong",
    "full_key: a.b": "ValueError",
    " \n": "ValueError",
}


@pytest.mark.parametrize("text", SAID)
def test_an_error_is_said_within_a_line(text: str) -> None:
    found = in_one_line(ValueError(text), leave_out=("full_key:", "object_type="))
    assert found == SAID[text]


def test_nothing_is_left_out_unless_asked_for() -> None:
    assert in_one_line(ValueError("full_key: a.b")) == "full_key: a.b"
    assert in_one_line(TimeoutError()) == "TimeoutError"
