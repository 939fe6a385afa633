"""What the reader of a ranking is warned of."""

from arms_made import MEAN, arm, noise

from tissueseg.reporting.comparisons import rank


def test_what_intervals_do_not_hold_is_said():
    one_seed = rank([arm("a", noise(0, 1)), arm("b", noise(1, 1))], MEAN)
    assert any("a, b holds the noise of tissues" in n or "b, a holds" in n for n in one_seed.notes)
    one_tissue = rank([arm("a", noise(0, 3, 1))], MEAN)
    assert any("noise of trainings, not of tissues" in note for note in one_tissue.notes)
    two_seeds = rank([arm("a", noise(0, 2))], MEAN)
    assert any("rests on two seeds" in note for note in two_seeds.notes)


def test_a_study_too_small_to_tell_anything_apart_says_so():
    small = [arm(n, k + noise(k, 2, 3)) for k, n in enumerate("abc")]
    ranking = rank(small, MEAN)
    assert {pair.p_smallest for pair in ranking.pairs} == {2 / 8}
    assert len(ranking.groups) == 1
    assert any("No data of this size could tell these arms apart" in n for n in ranking.notes)
