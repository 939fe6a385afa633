import numpy as np
import pytest

from tissueseg.errors import TissueDataError
from tissueseg.metrics.contingency import contingency
from tissueseg.metrics.foreground import (
    BinaryDice,
    binary_dice,
    foreground_counts,
    foreground_scores,
)


def make_labels(seed=0, shape=(9, 8)):
    rng = np.random.default_rng(seed)
    return (*(np.maximum(rng.integers(-3, 5, shape), 0) for _ in "tp"), rng.random(shape) < 0.7)


def test_instances_and_masks_count_the_same_foreground():
    truth, predicted, valid = make_labels()
    found = foreground_counts(truth > 0, predicted > 0, valid)
    assert found.tolist() == contingency(truth, predicted, valid).foreground_px.tolist()
    assert foreground_counts(truth > 0, predicted > 0)[1] == np.count_nonzero(truth)


def test_scores_by_hand():
    counts = [[1, 2, 4], [0, 0, 0], [3, 3, 3]]
    np.testing.assert_allclose(binary_dice(counts), [2 / 6, np.nan, 1])
    assert foreground_scores(counts) == pytest.approx(
        {"binary_dice_pooled": 8 / 12, "binary_dice_image": (2 / 6 + 1) / 2}
    )


def test_windows_add_up_and_processes_merge():
    truth, predicted, valid = make_labels()
    one, two = BinaryDice(2), BinaryDice(2)
    for metric, rows in ((one, np.s_[:4]), (two, np.s_[4:])):
        metric.update(1, foreground_counts(truth[rows] > 0, predicted[rows] > 0, valid[rows]))
    one.merge_state(two)
    whole = foreground_counts(truth > 0, predicted > 0, valid)
    assert one.compute().tolist() == [[0, 0, 0], whole.tolist()]


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(TissueDataError, match="masks of shapes"):
        foreground_counts(np.ones((2, 2), bool), np.ones((2, 3), bool))
