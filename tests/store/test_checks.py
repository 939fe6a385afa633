"""The border: every contradiction has one line that names the tissue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tissueseg.contracts import IGNORE, Channel, TissueClass
from tissueseg.errors import TissueDataError
from tissueseg.store.checks import check_classes, check_planes, check_tissue
from tissueseg.store.planes import Tissue, whole

BOTH = ("he", "sp")


def mask(value: int, dtype: Any = np.int64) -> np.ndarray:
    return np.full((40, 48), value, dtype)


def sp(value: float, dtype: Any = np.float32) -> np.ndarray:
    image = np.ones((2, 40, 48), dtype)
    image[1, 3, 4] = value
    return image


CONTRADICTIONS = {
    "missing sp": ({"sp": None}, "has images ['he']"),
    "he with 1 channel": ({"he": np.zeros((1, 40, 48), np.uint8)}, "8-bit RGB"),
    "he with 16 bit": ({"he": np.zeros((3, 40, 48), np.uint16)}, "8-bit RGB"),
    "he without channels": ({"he": np.zeros((40, 48), np.uint8)}, "8-bit RGB"),
    "sp with 3 channels": ({"sp": np.zeros((3, 40, 48), np.uint8)}, "the panel names 2"),
    "sp of doubles": ({"sp": sp(1, np.float64)}, "wanted uint8, uint16 or float32"),
    "nan": ({"sp": sp(np.nan)}, "CD3 hold NaN"),
    "infinity": ({"sp": sp(np.inf)}, "CD3 hold NaN or infinity"),
    "negative": ({"sp": sp(-2)}, "CD3 hold negative values (lowest -2)"),
    "negative integers": ({"sp": sp(-2, np.int16)}, "CD3 hold negative values"),
    "sp of another size": (
        {"sp": np.zeros((2, 40, 47), np.uint8)},
        "the SP image is 40 × 47 px, but the H&E image is 40 × 48 (height × width)",
    ),
    "instances of another size": (
        {"instances": mask(1)[:39]},
        "the instance mask is 39 × 48 px, but the H&E image is",
    ),
    "classes of another size": ({"classes": mask(1)[:39]}, "the class mask is 39 × 48 px"),
    "float instances": ({"instances": mask(1, np.float32)}, "wanted integers"),
    "negative instances": ({"instances": mask(-1)}, "instance ids are -1"),
    "huge instances": ({"instances": mask(2**31)}, "relabel"),
    "unknown class": ({"classes": mask(7)}, "class mask holds id [7]"),
    "untyped": (
        {"instances": mask(4), "classes": mask(0)},
        "1 instances without class, such as [4]",
    ),
}


@pytest.mark.parametrize(("parts", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradiction_is_one_line_with_the_tissue(
    parts: dict[str, Any],
    said: str,
    make_tissue: Callable[..., Tissue],
    classes: Sequence[TissueClass],
    panel: Sequence[Channel],
) -> None:
    with pytest.raises(TissueDataError) as caught:
        check(make_tissue(**parts), BOTH, classes, panel)
    assert str(caught.value).startswith("tissue t1")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def check(
    tissue: Tissue,
    images: tuple[str, ...],
    classes: Sequence[TissueClass],
    panel: Sequence[Channel],
) -> None:
    """What the writer asks of a tissue, and of each of its windows."""
    check_tissue("t1", tissue, images)
    check_planes("t1", tissue.read(whole(tissue.shape)), classes, panel)


def test_good_tissues_pass(
    make_tissue: Callable[..., Tissue], classes: Sequence[TissueClass], panel: Sequence[Channel]
) -> None:
    check(make_tissue(), BOTH, classes, panel)
    check(make_tissue(classes=mask(IGNORE)), BOTH, classes, panel)
    check(make_tissue(sp=None), ("he",), classes, ())
    check(make_tissue(he=None), ("sp",), classes, panel)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([(0, "background", "#000000")], "class ids are [0]"),
        ([(1, "a", "#000000"), (2, "b", "#000000")], "renumber"),
        ([(0, "a", "#000000"), (1, "a", "#000000")], "not unique"),
        ([(0, "a", "#000000"), (1, "b", "red")], "wanted '#rrggbb'"),
    ],
)
def test_class_table_is_checked(table: list[tuple[int, str, str]], said: str) -> None:
    with pytest.raises(TissueDataError) as caught:
        check_classes([TissueClass(*entry) for entry in table])
    assert said in str(caught.value)
