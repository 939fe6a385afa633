"""The sentence a report opens with claims what its tests allow, and no more."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from arms_made import arm, mean_of, noise

from tissueseg.reporting.comparisons import rank
from tissueseg.reporting.ranking import Ranking
from tissueseg.reporting.samples import Measure
from tissueseg.reporting.study.conclusion import conclude

MEASURE = Measure("test/dice/macro", "Dice pooled over all pixels, each once; and more", mean_of)


def ranked(**values: np.ndarray) -> Ranking:
    """Arms of (seeds, tissues) values, on two folds."""
    folds = ["1", "2"] * (next(iter(values.values())).shape[1] // 2)
    return rank([arm(name, found, folds=folds) for name, found in values.items()], MEASURE)


def test_arms_alike_are_said_to_be_alike() -> None:
    said = conclude(ranked(a=0.5 + noise(0), b=0.5 + noise(1), c=0.5 + noise(2)))
    assert said.startswith("None of the 3 arms can be told apart on test/dice/macro (Dice pooled")
    assert "12 tissues, 4 seeds" in said
    assert "with so few runs" not in said


def test_a_clear_winner_is_named_with_what_lies_behind_it() -> None:
    said = conclude(ranked(a=0.5 + noise(0), b=0.8 + noise(1)))
    assert said.startswith("b is best on test/dice/macro")
    assert "the others less it: a −.299 [−.3" in said
    assert "(Holm p " in said


def test_leaders_that_are_alike_lead_together() -> None:
    said = conclude(ranked(a=0.8 + noise(0), b=0.8 + noise(1), c=0.5 + noise(2)))
    assert said.startswith(("a and b lead", "b and a lead"))
    assert "cannot be told apart" in said
    assert "less it: c −.300 [−.3" in said


def test_too_few_runs_are_said_to_be_too_few() -> None:
    two = {"a": 0.5 + noise(0)[:1, :2], "b": 0.9 + noise(1)[:1, :2]}
    assert "with so few runs no difference could have been told" in conclude(ranked(**two))


def test_arms_with_fewer_tissues_or_seeds_are_counted_too() -> None:
    small = arm("b", 0.5 + noise(1)[:3, :8], folds=["1", "2"] * 4)
    large = arm("a", 0.5 + noise(0), folds=["1", "2"] * 6)
    assert "8 to 12 tissues, 3 to 4 seeds" in conclude(rank([large, small], MEASURE))


def test_one_arm_has_nothing_to_be_compared_with() -> None:
    said = conclude(ranked(a=0.5 + noise(0)))
    assert said.startswith("a scores .5")
    assert "nothing to compare it with" in said


def test_without_any_test_nothing_is_said() -> None:
    found = ranked(a=0.5 + noise(0), b=0.9 + noise(1))
    untested = tuple(replace(pair, p=math.nan, p_holm=math.nan) for pair in found.pairs)
    said = conclude(replace(found, pairs=untested, groups=(("a", "b"),)))
    assert said.startswith("Nothing can be said of the 2 arms")


@pytest.mark.parametrize("values", [(0.5, 0.5), (0.5, 0.9)])
def test_it_is_one_sentence(values: tuple[float, float]) -> None:
    said = conclude(ranked(a=values[0] + noise(0), b=values[1] + noise(1)))
    assert said.endswith(".")
    assert ". " not in said
    assert "nan" not in said
