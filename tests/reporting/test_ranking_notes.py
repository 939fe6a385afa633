"""What the reader of a ranking is warned of."""

from arms_made import MEAN, arm, noise

from tissueseg.reporting.comparisons import rank


def test_what_intervals_do_not_hold_is_said():
    one_seed = rank([arm("a", noise(0, 1)), arm("b", noise(1, 1))], MEAN)
    assert any("Intervals of all arms hold the noise of tissues" in n for n in one_seed.notes)
    one_tissue = rank([arm("a", noise(0, 3, 1))], MEAN)
    assert any("noise of trainings, not of tissues" in note for note in one_tissue.notes)
    two_seeds = rank([arm("a", noise(0, 2))], MEAN)
    assert any("Intervals of a rest on two seeds" in note for note in two_seeds.notes)


def test_arms_are_named_where_not_all_are_meant():
    notes = rank(
        [arm("a", noise(0, 1)), arm("b", 1 + noise(1, 1)), arm("c", noise(2, 3))], MEAN
    ).notes
    assert any("Intervals of b, a hold the noise of tissues" in note for note in notes)


def test_arms_that_lack_the_same_are_said_in_one_line():
    arms = [arm(name, k + noise(k, 2)) for k, name in enumerate("ab")] + [arm("c", noise(2, 3))]
    lacking = [note for note in rank(arms, MEAN).notes if "what both have" in note]
    assert lacking == ["a, b have no seed 2: pairs are compared on what both have."]


def test_a_study_too_small_to_tell_anything_apart_says_so():
    small = [arm(n, k + noise(k, 2, 3)) for k, n in enumerate("abc")]
    ranking = rank(small, MEAN)
    assert {pair.p_smallest for pair in ranking.pairs} == {2 / 8}
    assert len(ranking.groups) == 1
    (told,) = (n for n in ranking.notes if "No data of this size could tell these arms" in n)
    assert "a pair could get is .250, times 3 pairs." in told


def test_one_pair_is_no_pairs():
    ranking = rank([arm(n, k + noise(k, 2, 3)) for k, n in enumerate("ab")], MEAN)
    assert any("times 1 pair." in note for note in ranking.notes)
