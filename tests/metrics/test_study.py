import pytest
import torch

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.study import DiceStudy

TRUTH = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, IGNORE]]])
PREDICTED = torch.tensor([[[0, 1, 1, 1]], [[0, 0, 2, 2]]])


def test_one_batch_by_hand():
    metric = DiceStudy(4, 2)
    metric.update(PREDICTED, TRUTH)
    # Background 2·3 / (5 + 3), class 1: 2·2 / (2 + 3), class 2: 0, class 3 is nowhere: 1.
    assert metric.compute().tolist() == pytest.approx([0.75, 0.8, 0, 1])
    assert metric.scores() == {"dice_study_batch2": pytest.approx(2.55 / 4)}


def test_the_score_depends_on_the_batch_size_and_its_name_says_so():
    metric = DiceStudy(4, 1)
    for one in (0, 1):
        metric.update(PREDICTED[one : one + 1], TRUTH[one : one + 1])
    # First tile: 2/3, 4/5, 1, 1. Second: 2·2 / (3 + 2), 1, 0, 1.
    assert metric.compute().tolist() == pytest.approx([(2 / 3 + 0.8) / 2, 0.9, 0.5, 1])
    assert list(metric.scores()) == ["dice_study_batch1"]


def test_processes_merge_by_summing():
    one, two, whole = (DiceStudy(4, 1) for _ in range(3))
    for metric, tile in ((one, 0), (two, 1), (whole, 0), (whole, 1)):
        metric.update(PREDICTED[tile : tile + 1], TRUTH[tile : tile + 1])
    one.merge_state(two)
    torch.testing.assert_close(one.compute(), whole.compute())


def test_more_tiles_than_the_name_says_are_refused():
    with pytest.raises(TissueDataError, match="a batch of 2 for dice_study_batch1"):
        DiceStudy(4, 1).update(PREDICTED, TRUTH)
