"""Sixty tissues with one oddity make one line."""

from __future__ import annotations

import pytest

from tissueseg.inspection.findings import Oddity, group, share


def odd(tissue: str, weight: float = 1.0, level: str = "notice", what: str = "specks") -> Oddity:
    return Oddity(tissue, level, "masks", what, f"{weight:g} px", "wanted none", weight)  # pyright: ignore[reportArgumentType]


def test_one_tissue_is_named_with_its_value() -> None:
    (finding,) = group([odd("a")])
    assert finding.says == "specks in tissue a: 1 px; wanted none"
    assert (finding.level, finding.check, finding.tissues) == ("notice", "masks", ("a",))


def test_many_tissues_make_one_line_that_begins_with_the_worst() -> None:
    (finding,) = group([odd(f"t{i:02d}", weight=i) for i in range(60)])
    assert finding.says == (
        "specks in tissues t59, t58, t57, t56 and 56 more: 59 px at worst (t59); wanted none"
    )
    assert finding.tissues == tuple(f"t{i:02d}" for i in reversed(range(60)))


def test_tissues_that_are_alike_have_no_worst() -> None:
    (finding,) = group([odd("a"), odd("b")])
    assert finding.says == "specks in tissues a, b: 1 px; wanted none"


def test_the_highest_level_stands_for_all_and_is_named_first() -> None:
    (finding,) = group([odd("a", 9.0), odd("b", 2.0, "warning")])
    assert finding.level == "warning"
    assert "tissues b, a: 2 px at worst (b)" in finding.says
    assert finding.tissues == ("b",)  # the other is only noticed


def test_warnings_come_before_notices() -> None:
    found = list(
        group([odd("a", what="x"), odd("a", what="y", level="warning"), odd("b", what="x")])
    )
    assert [finding.level for finding in found] == ["warning", "notice"]


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 10, "0 %"), (1, 3, "33.3 %"), (1, 100_000, "under 0.1 %"), (5, 0, "500 %")],
)
def test_small_shares_are_not_rounded_to_nothing(part: float, whole: float, said: str) -> None:
    assert share(part, whole) == said
