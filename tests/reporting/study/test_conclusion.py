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
from tissueseg.reporting.study.words import number

MEASURE = Measure("test/dice/macro", "Dice pooled over all pixels, each once; and more", mean_of)


def ranked(**values: np.ndarray) -> Ranking:
    """Arms of (seeds, tissues) values, on two folds."""
    folds = ["1", "2"] * (next(iter(values.values())).shape[1] // 2)
    return rank([arm(name, found, folds=folds) for name, found in values.items()], MEASURE)


def test_arms_alike_are_said_to_be_alike() -> None:
    said = conclude(ranked(a=0.5 + noise(0), b=0.5 + noise(1), c=0.5 + noise(2)))
    assert said.startswith("None of the 3 arms can be told apart on test/dice/macro (Dice pooled")
    assert "12 tissues, 4 seeds" in said
    assert "could have been told apart" not in said


def test_the_first_and_the_last_are_named_with_their_difference() -> None:
    found = ranked(a=0.503 + noise(0), b=0.499 + noise(1), c=0.501 + noise(2))
    first, middle, last = found.arms
    said = conclude(found)
    assert f"the first, {first.arm} (" in said
    assert f"the last, {last.arm} (" in said
    assert f"{middle.arm} (" not in said
    pair = next(p for p in found.pairs if (p.arm, p.other) == (first.arm, last.arm))
    assert f"differ by {number(pair.difference.estimate, signed=True)} [" in said


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
    assert conclude(ranked(**two)).endswith(
        "; no pair of 2 arms could have been told apart: smallest possible p .500 × 1 pair."
    )


def test_what_the_baselines_family_found_is_said_where_all_pairs_found_nothing() -> None:
    tissues = np.linspace(0.4, 0.6, 8)
    arms = {name: 0.1 * k + tissues + noise(k, 3, 8) for k, name in enumerate("abcde")}
    said = conclude(ranked(**arms))
    assert said.startswith("None of the 5 arms can be told apart")
    assert "smallest possible p .008 × 10 pairs; held against a alone (Holm over 4): e +.4" in said
    assert said.endswith("(p .031).")
    assert "alone" not in conclude(ranked(a=0.5 + noise(0), b=0.5 + noise(1)))


def test_what_no_test_was_made_of_is_not_claimed() -> None:
    folds = ["1"] * 12
    found = rank([arm(n, k + noise(k, 1), folds=folds) for k, n in enumerate("ab")], MEASURE)
    assert conclude(found) == (
        "Nothing can be said of the 2 arms on test/dice/macro (Dice pooled over all pixels; 12 tissues, "
        "1 seed): there is one training of each arm, so nothing can be said of other trainings."
    )


def test_an_arm_that_was_trained_on_other_folds_is_named_apart() -> None:
    values = 0.5 + noise(0)
    halves = ["1"] * 6 + ["2"] * 6
    arms = [arm("a", values + 0.3), arm("b", values), arm("moved", values + 0.1, folds=halves)]
    said = conclude(rank(arms, MEASURE))
    assert said.startswith("a comes first on test/dice/macro")
    assert "those told apart from it, less it: b −.300" in said
    assert "; not tested against it: moved, for other folds held out their tissues" in said


def test_an_arm_without_a_score_is_named_apart() -> None:
    nothing = np.full((4, 12), np.nan)
    said = conclude(ranked(a=0.5 + noise(0), b=0.8 + noise(1), none=nothing))
    assert said.startswith("b is best")
    assert said.endswith("; none has no score.")
    assert "–" not in said
    assert conclude(ranked(a=nothing, b=nothing)) == "No arm has a score on test/dice/macro."


def test_arms_that_only_the_first_is_too_noisy_for_are_not_said_to_be_alike() -> None:
    """The first is told apart from nobody, those behind it from each other."""
    rng = np.random.default_rng(0)
    wild = 0.12 * rng.standard_normal((1, 12))
    wild += 0.51 - wild.mean()
    arms = {"wild": wild + noise(1, 4, size=0.002)}
    arms |= {"b": 0.5 + noise(2, size=0.002), "c": 0.46 + noise(3, size=0.002)}
    found = ranked(**arms)
    said = conclude(found)
    assert len(found.groups) == 2
    assert said.startswith("wild, b and c lead on")
    assert "b and c cannot be told apart from wild, which has .51" in said
    assert "; told apart from each other: b less c +.04" in said


def test_leaders_are_those_that_the_corrected_p_does_not_tell_apart() -> None:
    found = ranked(a=0.8 + noise(0), b=0.7 + noise(1), c=0.5 + noise(2))
    pairs = [replace(p, p=0.03, p_holm=0.06) if p.other == "b" else p for p in found.pairs]
    said = conclude(replace(found, pairs=tuple(pairs), against_baseline=()))
    assert said.startswith("a and b lead")
    assert "less it: c −.300" in said
    assert "b −" not in said


def test_tissues_that_bear_on_some_arms_only_are_counted() -> None:
    found = ranked(a=0.5 + noise(0), b=0.5 + noise(1))
    arms = (replace(found.arms[0], units=8), found.arms[1])
    assert "8 to 12 tissues, 4 seeds" in conclude(replace(found, arms=arms))


def test_one_arm_has_nothing_to_be_compared_with() -> None:
    said = conclude(ranked(a=0.5 + noise(0)))
    assert said.startswith("a scores .5")
    assert "nothing to compare it with" in said


def test_without_any_test_nothing_is_said() -> None:
    found = ranked(a=0.5 + noise(0), b=0.9 + noise(1))
    untested = tuple(
        replace(pair, p=math.nan, p_holm=math.nan, untested="why") for pair in found.pairs
    )
    said = conclude(replace(found, pairs=untested, groups=(("a", "b"),)))
    assert said.startswith("Nothing can be said of the 2 arms")


@pytest.mark.parametrize("values", [(0.5, 0.5), (0.5, 0.9)])
def test_it_is_one_sentence(values: tuple[float, float]) -> None:
    said = conclude(ranked(a=values[0] + noise(0), b=values[1] + noise(1)))
    assert said.endswith(".")
    assert ". " not in said
    assert "nan" not in said
