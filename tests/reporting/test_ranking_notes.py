"""What the reader of a ranking is warned of."""

from dataclasses import replace

import pytest
from arms_made import MEAN, arm, noise

from tissueseg.reporting.comparisons import rank
from tissueseg.reporting.ranking_notes import why_blind


def test_what_intervals_do_not_hold_is_said():
    one_seed = rank([arm("a", noise(0, 1)), arm("b", noise(1, 1))], MEAN)
    assert any("Intervals of all arms hold the noise of tissues" in n for n in one_seed.notes)
    one_tissue = rank([arm("a", noise(0, 3, 1))], MEAN)
    assert any("noise of trainings, not of tissues" in note for note in one_tissue.notes)
    two_seeds = rank([arm("a", noise(0, 2))], MEAN)
    assert any("Intervals of a rest on two seeds" in note for note in two_seeds.notes)


def test_patients_are_called_patients():
    (note,) = rank([arm("a", noise(0, 3, 1))], replace(MEAN, has_patients=True)).notes
    assert "noise of trainings, not of patients" in note


def test_one_training_of_each_arm_says_nothing_of_others():
    folds = ("1",) * 12
    arms = [arm(n, k + noise(k, 1), folds=folds) for k, n in enumerate("abc")]
    notes = rank(arms, MEAN).notes
    assert (
        "No test of all pairs: there is one training of each arm, so nothing can be said of other "
        "trainings. They count as not told apart."
    ) in notes
    assert not any("No data of this size" in note for note in notes)


def test_a_study_too_small_to_tell_anything_apart_says_so():
    small = [arm(n, k + noise(k, 2, 3)) for k, n in enumerate("abc")]
    ranking = rank(small, MEAN)
    assert {pair.p_smallest for pair in ranking.pairs} == {2 / 8}
    assert len(ranking.groups) == 1
    (told,) = (n for n in ranking.notes if "No data of this size" in n)
    assert "smallest possible p .250 × 3 pairs. Add seeds, folds or tissues, or compare" in told


def test_one_pair_is_no_pairs():
    ranking = rank([arm(n, k + noise(k, 2, 3)) for k, n in enumerate("ab")], MEAN)
    assert any("× 1 pair. Add seeds, folds or tissues." in note for note in ranking.notes)


@pytest.mark.parametrize(("smallest", "blind"), [(0.02, True), (0.01, False)])
def test_what_could_be_told_is_counted_over_all_pairs_tested(smallest, blind):
    pairs = rank([arm(n, noise(k)) for k, n in enumerate("abc")], MEAN).pairs
    found = [replace(pair, p_smallest=smallest) for pair in pairs]
    assert bool(why_blind(found, 0.05)) == blind
    assert not why_blind(found[:2], 0.05)
