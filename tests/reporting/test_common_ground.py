"""What arms are compared on, where they do not all have the same."""

import numpy as np
import pytest
from arms_made import MEAN, arm, noise, three_arms

from tissueseg.errors import ConfigError
from tissueseg.reporting.common_ground import common_ground
from tissueseg.reporting.comparisons import arm_results, rank


def test_arms_that_have_the_same_are_left_as_they_are():
    arms = three_arms()
    ground = common_ground(arms, MEAN)
    assert (ground.notes, ground.unscored) == ((), ())
    for one, other in zip(arms, ground.samples, strict=True):
        assert (one.arm, one.seeds, one.units) == (other.arm, other.seeds, other.units)
        np.testing.assert_array_equal(one.parts, other.parts)


def test_an_arm_without_the_hard_tissues_does_not_lead():
    """`half` is worse on every tissue, but was tested on the easy fold alone."""
    tissues = np.repeat([0.3, 0.8], 6)
    folds = ("1",) * 6 + ("2",) * 6
    whole = arm("whole", tissues + noise(0), folds=folds)
    units = whole.units[6:]
    half = arm("half", (tissues - 0.05 + noise(1))[:, 6:], units=units, folds=folds[6:])
    other = arm("other", tissues - 0.02 + noise(2), folds=folds)
    ranking = rank([half, whole, other], MEAN)
    assert [result.arm for result in ranking.arms] == ["whole", "other", "half"]
    assert (
        {result.units for result in ranking.arms} == {pair.units for pair in ranking.pairs} == {6}
    )
    by_arm = {result.arm: result.interval.estimate for result in ranking.arms}
    for pair in ranking.pairs:
        assert pair.difference.estimate == pytest.approx(by_arm[pair.arm] - by_arm[pair.other])
        assert pair.wins > 0.5
    assert ranking.notes[0] == (
        "half has no scores of fold 1 (t00, t01, t02, 3 more): all arms are compared on the 6 tissues "
        "and 4 seeds that all have; arms=[whole,other] leaves it out."
    )


def test_seeds_and_tissues_that_one_arm_lacks_count_for_none():
    tissues = np.linspace(0.2, 0.8, 8)
    short = arm("short", (tissues + noise(0, 3, 8))[1:, :6], seeds=(1, 2))
    ranking = rank([arm("long", tissues + 0.1 + noise(0, 3, 8)), short], MEAN)
    (pair,) = ranking.pairs
    assert (pair.units, pair.seeds) == (6, 2)
    assert pair.difference.estimate == pytest.approx(0.1)  # what is left out would have made it .2
    assert {result.seeds for result in ranking.arms} == {(1, 2)}
    assert any("short has no seed 0 and no scores of t06, t07" in note for note in ranking.notes)


def test_arms_that_lack_the_same_are_said_in_one_line():
    arms = [arm(name, k + noise(k, 2)) for k, name in enumerate("ab")] + [arm("c", noise(2, 3))]
    assert common_ground(arms, MEAN).notes == (
        "a, b have no seed 2: all arms are compared on the 12 tissues and 2 seeds that all have; "
        "arms=[c] leaves them out.",
    )


def test_a_mean_is_over_tissues_where_every_arm_has_a_score():
    values = 0.5 + noise(0)
    some = values.copy()
    some[0, 3] = some[:, 7] = np.nan
    some[:, 7:] += 0.3
    ground = common_ground([arm("some", some), arm("all", values)], MEAN)
    assert all("t03" not in s.units and "t07" not in s.units for s in ground.samples)
    assert {len(s.units) for s in ground.samples} == {10}
    (note,) = ground.notes
    assert note.startswith("some has no score of t03, t07 with every seed: all arms are compared")


def test_a_tissue_of_which_no_arm_has_a_score_is_not_missed():
    values = 0.5 + noise(0)
    values[:, 4] = np.nan
    assert common_ground([arm("a", values), arm("b", values)], MEAN).notes == ()


def test_results_of_a_class_are_of_the_same_tissues():
    values = 0.5 + noise(0)
    short = arm("short", values[:, :6])
    long = arm("long", np.where(np.arange(12) < 6, values, 9.0))
    one, other = arm_results([short, long], MEAN)
    assert one.interval == other.interval
    assert one.units == other.units == 6


@pytest.mark.parametrize("known_is_better", [True, False])
def test_patients_that_one_arm_knows_hold_for_all(known_is_better):
    values, patients = 0.5 + noise(0, 3, 6), tuple("ppqqrr")
    known = arm("known", values + (0.1 if known_is_better else -0.1), clusters=patients)
    ranking = rank([arm("unknown", values), known], MEAN)
    assert ranking.pairs[0].p_smallest == 2 / 8  # three patients, not six tissues
    one, other = (result.interval for result in ranking.arms)
    assert one.se == pytest.approx(other.se)


@pytest.mark.parametrize(
    ("other", "lacking"),
    [
        (arm("b", noise(1), seeds=(7, 8, 9, 10)), "no seed in common (a: 0, 1, 2, 3; b: 7, 8"),
        (arm("b", noise(1), units=tuple("abcdefghijkl")), "no tissue in common (a: t00, t01"),
    ],
)
def test_arms_that_share_nothing_are_refused_by_name(other, lacking):
    with pytest.raises(ConfigError) as found:
        rank([arm("a", noise(0)), other], MEAN)
    assert f"arms a, b have {lacking}" in str(found.value)
    assert "\n" not in str(found.value)


def test_arms_that_share_no_score_are_refused():
    first, second = noise(0), noise(1)
    first[:, 6:] = second[:, :6] = np.nan
    with pytest.raises(ConfigError, match=r"no tissue with a score in common \(a: 6 of 12; b: 6"):
        rank([arm("a", first), arm("b", second)], MEAN)
    first, second = noise(0), noise(1)
    first[:2] = second[2:] = np.nan
    with pytest.raises(ConfigError, match=r"no seed with a score in common \(a: 2 of 4; b: 2"):
        rank([arm("a", first), arm("b", second)], MEAN)
