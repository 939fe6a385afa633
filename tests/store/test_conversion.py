"""The scale that all tissues of a source share, or the two that are furthest apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tissueseg.errors import TissueDataError
from tissueseg.store.conversion import common_scale


def source(**scales: float | None) -> Any:
    return SimpleNamespace(tissues=tuple(scales), scale=scales.__getitem__)


@pytest.mark.parametrize("scale", [0.5, None])
def test_it_is_that_of_each(scale: float | None) -> None:
    assert common_scale(source(a=scale, b=scale)) == scale


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ({"a": 0.5, "b": 1.0, "c": 0.25}, "tissue c has 0.25 µm/px, but b 1 µm/px"),
        ({"a": 0.5, "b": None}, "tissue b has unknown µm/px, but a 0.5 µm/px"),
    ],
)
def test_the_finest_and_the_coarsest_are_named(scales: dict[str, float | None], said: str) -> None:
    with pytest.raises(TissueDataError, match=f"^{said}: a store has one scale"):
        common_scale(source(**scales))
