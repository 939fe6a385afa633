"""Rankings: who is ahead, who can be told apart, and what is left out."""

import math

import numpy as np
import pytest
from arms_made import LOSS, MEAN, arm, noise, three_arms

from tissueseg.errors import ConfigError
from tissueseg.reporting.comparisons import alike, arm_results, rank
from tissueseg.reporting.records.measured_parts import key_of, score_of
from tissueseg.reporting.samples import ArmSample, Measure


def names(ranking):
    return [result.arm for result in ranking.arms]


def test_an_arm_ahead_on_every_tissue_and_seed_is_told_apart_and_others_are_not():
    ranking = rank(three_arms(), MEAN)
    assert names(ranking)[0] == "best"
    assert [len(group) for group in ranking.groups] == [1, 2]
    assert [result.letters for result in ranking.arms] == ["a", "b", "b"]
    best = [pair for pair in ranking.pairs if pair.arm == "best"]
    assert all(pair.p_holm < 0.05 and pair.wins == 1 and pair.effect > 3 for pair in best)
    assert all(pair.difference.low > 0 for pair in best)


def test_a_ranking_does_not_depend_on_the_order_of_arms():
    arms = three_arms()
    assert rank(arms[::-1], MEAN, "plain") == rank(arms, MEAN, "plain")


def test_an_interval_does_not_depend_on_which_other_arms_there_are():
    arms = three_arms()
    alone = rank(arms[:1], MEAN).arms[0].interval
    assert next(a for a in rank(arms, MEAN).arms if a.arm == "plain").interval == alone


def test_an_interval_does_not_depend_on_the_order_of_tissues():
    values, units = noise(0), tuple("abcdefghijkl")
    some = arm("x", values, units=units)
    turned = arm("x", values[:, ::-1], units=units[::-1])
    (one, other) = arm_results([some, turned], MEAN)
    assert one.interval[:5] == pytest.approx(other.interval[:5])


def test_identical_arms_differ_by_nothing_and_are_one_group():
    values = noise(0)
    ranking = rank([arm("a", values), arm("b", values)], MEAN)
    (pair,) = ranking.pairs
    assert pair.difference[:4] == (0, 0, 0, 0)
    assert (pair.p_units, pair.p_runs, pair.p_both, pair.p_holm, pair.wins) == (1, 1, 1, 1, 0.5)
    assert math.isnan(pair.effect)
    assert ranking.groups == (("a", "b"),)


def test_the_same_pair_from_the_other_side_is_its_negative():
    arms = three_arms()
    one = rank(arms[:2], MEAN, "plain").against_baseline[0]
    other = rank(arms[:2], MEAN, "best").against_baseline[0]
    assert (one.arm, one.other, other.arm, other.other) == ("best", "plain", "plain", "best")
    assert other.difference.estimate == -one.difference.estimate < 0
    assert (other.difference.low, other.difference.high) == (
        -one.difference.high,
        -one.difference.low,
    )
    assert (other.p, other.p_holm, other.effect) == (one.p, one.p_holm, -one.effect)
    assert other.wins == 1 - one.wins


def test_lower_is_better_turns_ranks_and_wins_but_not_differences():
    ranking = rank(three_arms(), LOSS)
    assert names(ranking)[-1] == "best"  # by name only: its loss is highest
    pair = next(pair for pair in ranking.pairs if pair.other == "best")
    assert pair.difference.high < 0
    assert (pair.wins, pair.effect < 0) == (1, True)


def test_every_arm_is_held_against_the_baseline_in_a_family_of_its_own():
    ranking = rank(three_arms(), MEAN, "other")
    assert {(pair.arm, pair.other) for pair in ranking.against_baseline} == {
        ("best", "other"),
        ("plain", "other"),
    }
    by_pair = {frozenset((pair.arm, pair.other)): pair for pair in ranking.pairs}
    best = next(pair for pair in ranking.against_baseline if pair.arm == "best")
    assert best.p_holm == pytest.approx(2 * best.p)
    assert by_pair[frozenset(("best", "other"))].p_holm >= best.p_holm


def test_the_first_arm_is_the_baseline_if_none_is_named():
    assert rank(three_arms(), MEAN).baseline == "plain"


def test_an_unknown_baseline_is_answered_with_the_arms_there_are():
    with pytest.raises(ConfigError, match=r"baseline=nobody.*'plain', 'best', 'other'"):
        rank(three_arms(), MEAN, "nobody")


def test_nothing_cannot_be_ranked():
    with pytest.raises(ConfigError, match="no arm"):
        rank([], MEAN)


def test_one_arm_has_an_interval_and_no_pairs():
    ranking = rank(three_arms()[:1], MEAN)
    assert (ranking.pairs, ranking.against_baseline) == ((), ())
    assert ranking.groups == (("plain",),)
    assert ranking.arms[0].interval.covers == "tissues and seeds"
    assert ranking.notes == ()


def test_a_claim_of_the_page_is_corrected_for_all_pairs():
    """Five arms far apart on eight tissues: p of each pair is .008, of ten pairs .078."""
    tissues = np.linspace(0.4, 0.6, 8)
    arms = [arm(name, k + tissues + noise(k, 3, 8)) for k, name in enumerate("abcde")]
    ranking = rank(arms, MEAN)
    assert all(pair.p < 0.05 < pair.p_holm for pair in ranking.pairs)
    assert ranking.groups == (("e", "d", "c", "b", "a"),)
    assert {result.letters for result in ranking.arms} == {"a"}
    assert all(pair.p_holm < 0.05 for pair in ranking.against_baseline)


def test_tissues_that_say_nothing_of_a_class_change_no_interval():
    hits = np.random.default_rng(0).uniform(0.4, 0.8, (3, 4))
    parts = np.stack([hits, np.ones_like(hits), np.ones_like(hits)], -1)
    dice = Measure("test/dice/tumor", "pooled", score_of(key_of("test/dice/tumor")))
    units = tuple("abcdefgh")
    folds = ("1",) * 8
    some = ArmSample("a", (0, 1, 2), units[:4], units[:4], folds[:4], parts)
    more = np.concatenate([parts, np.zeros_like(parts)], 1)
    padded = ArmSample("a", (0, 1, 2), units, units, folds, more)
    (one,), (other,) = arm_results([some], dice), arm_results([padded], dice)
    assert one == other


def test_an_arm_without_any_score_comes_last_and_is_said_to():
    ranking = rank([arm("none", np.full((2, 4), np.nan)), *three_arms()], MEAN)
    last = ranking.arms[-1]
    assert (last.arm, last.units, last.interval.covers) == ("none", 0, "nothing")
    assert all(map(math.isnan, last.by_seed))
    assert last.letters == ""
    assert ranking.groups == rank(three_arms(), MEAN).groups
    assert [p for p in ranking.pairs if not p.untested] == [*rank(three_arms(), MEAN).pairs]
    assert {pair.untested for pair in ranking.pairs if "none" in (pair.arm, pair.other)} == {
        "none has no score"
    }
    assert ranking.notes == ("none has no score: it is listed last, outside tests and groups.",)


def test_arms_of_which_none_has_a_score_are_listed_all_the_same():
    nothing = np.full((2, 4), np.nan)
    ranking = rank([arm("a", nothing), arm("b", nothing)], MEAN)
    assert (names(ranking), ranking.groups) == (["a", "b"], ())
    assert math.isnan(ranking.pairs[0].p)


def test_a_seed_without_score_is_left_out_and_said_to():
    values = 0.5 + noise(0)
    broken = values.copy()
    broken[1] = np.nan
    found = rank([arm("a", broken), arm("b", values)], MEAN)
    result = next(result for result in found.arms if result.arm == "a")
    assert result.seeds == (0, 2, 3)
    assert result.interval.estimate == pytest.approx(values[[0, 2, 3]].mean())
    assert {arm.interval.estimate for arm in found.arms} == {result.interval.estimate}
    assert found.pairs[0].seeds == 3
    assert found.notes[0].startswith("a has no score with seed 1: all arms are compared on the 12 ")


def test_groups_are_the_largest_sets_alike_and_may_overlap():
    apart = {("a", "c"), ("a", "d"), ("b", "d")}
    assert alike("abcd", apart) == (("a", "b"), ("b", "c"), ("c", "d"))
    assert alike("abc", set()) == (("a", "b", "c"),)
    assert alike("abc", {("a", "b"), ("a", "c"), ("b", "c")}) == (("a",), ("b",), ("c",))
    assert alike("abc", {("a", "b")}) == (("a", "c"), ("b", "c"))


def test_results_come_in_the_order_asked_for():
    results = arm_results(three_arms(), MEAN)
    assert [result.arm for result in results] == ["plain", "best", "other"]
    assert [len(result.by_seed) for result in results] == [4, 4, 4]
