import pytest
import torch

from tissueseg.errors import ConfigError
from tissueseg.losses.dice import Dice


def test_two_tiles_by_hand(make_batch):
    # p = (3/4, 1/4) at all four pixels
    logits = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1).expand(2, 2, 1, 2)
    batch = make_batch([[[0, 1]], [[0, 0]]])
    # (2·hit + 1)/(claimed + truth + 1)
    tile_0 = (2 * 0.75 + 1) / (1.5 + 1 + 1), (2 * 0.25 + 1) / (0.5 + 1 + 1)
    tile_1 = (2 * 1.5 + 1) / (1.5 + 2 + 1), 1 / (0.5 + 0 + 1)
    expected = 1 - torch.tensor([*tile_0, *tile_1]).mean()
    torch.testing.assert_close(Dice()({"classes": logits}, batch), expected)


def test_false_claims_of_an_absent_class_are_pushed_down(make_batch):
    batch = make_batch(torch.zeros(1, 16, 16, dtype=torch.int64))
    logits = torch.zeros(1, 2, 16, 16, requires_grad=True)
    Dice()({"classes": logits}, batch).backward()
    assert (logits.grad[:, 1] > 0).all()


def test_one_logit_scores_the_positive_class_alone(make_batch):
    # p = 3/4 at three known pixels, two of them boundary; the fourth is not known
    logits = torch.tensor(3.0).log().expand(1, 1, 1, 4)
    batch = make_batch([[[0, 1, 1, 0]]], boundary=[[[[1.0, 0.0, 1.0, float("nan")]]]])
    expected = 1 - torch.tensor((2 * 1.5 + 1) / (2.25 + 2 + 1))
    torch.testing.assert_close(Dice(head="boundary")({"boundary": logits}, batch), expected)


def test_offsets_are_no_probabilities():
    with pytest.raises(ConfigError, match="head=hv; choose from classes, foreground, boundary"):
        Dice(head="hv")


@pytest.mark.parametrize("epsilon", [0, -1, float("nan"), "abc", True])
def test_an_epsilon_that_is_not_positive_is_refused(epsilon):
    with pytest.raises(ConfigError, match=r"Dice\.epsilon=.*, wanted a finite number > 0"):
        Dice(epsilon)
