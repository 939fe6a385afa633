"""Splits are checked, whoever made them: no patient on two sides."""

import pytest

from tissueseg.data.splits import Split, check_split
from tissueseg.errors import SplitError


@pytest.mark.parametrize(
    "planted",
    [
        Split(("a", "b"), ("c",)),
        Split(("a",), ("b",), ("c",)),
        Split(("b",), ("d",), ("a", "c")),
        Split(("a", "b"), ("d", "a")),
    ],
)
def test_leakage_is_caught(planted):
    patients = {"a": "p", "b": "q", "c": "p", "d": "r"}
    leaks = len([1 for side in planted if {patients[t] for t in side} & {"p"}]) > 1
    if leaks:
        with pytest.raises(SplitError, match=r"patient p .*leaked"):
            check_split(planted, patients)
    else:
        assert check_split(planted, patients) == planted


def test_a_tissue_the_store_does_not_hold_is_named():
    with pytest.raises(SplitError, match=r"split\.val names ghost"):
        check_split(Split(("a",), ("ghost",)), {"a": "a"})
