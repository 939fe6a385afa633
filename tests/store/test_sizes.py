"""Sizes that differ: what a message takes them for."""

from __future__ import annotations

import pytest

from tissueseg.errors import TissueDataError
from tissueseg.store.sizes import check_sizes, compare_sizes, same_field


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((396, 600), "mask is 396 × 600 px, but SP is 400 × 600 (height × width): crop or pad"),
        ((200, 300), "(height × width), 1 : 2.00: export both at one resolution."),
        ((1000, 1505), "(height × width), 2.50 : 1: export both at one resolution."),
        ((600, 400), "its sides are swapped, transpose it."),
        ((300, 600), "they do not show the same field. Register them to one frame."),
        ((400, 600, 3), "mask is 400 × 600 × 3 px, but SP is 400 × 600 (height × width): save it"),
        ((0, 600), "save it again as one plane"),
    ],
)
def test_what_happened_to_a_size_is_said(size: tuple[int, ...], said: str) -> None:
    assert said in compare_sizes("mask", size, "SP", (400, 600))


def test_all_sizes_are_held_against_the_first() -> None:
    check_sizes("tissue a", {"SP": (4, 6), "mask": [4, 6]})
    with pytest.raises(TissueDataError, match=r"^tissue a: mask is 4 × 5 px, but SP is 4 × 6"):
        check_sizes("tissue a", {"SP": (4, 6), "H&E": (4, 6), "mask": (4, 5)})


def test_only_sizes_of_one_shape_may_show_one_field() -> None:
    assert same_field((200, 300), (400, 600))
    assert same_field((199, 300), (400, 600))
    assert not same_field((300, 200), (400, 600))
    assert not same_field((0, 300), (400, 600))
