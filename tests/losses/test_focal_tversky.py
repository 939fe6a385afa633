import pytest
import torch

from tissueseg.errors import ConfigError
from tissueseg.losses.dice import Dice
from tissueseg.losses.focal_tversky import FocalTversky


def test_a_batch_by_hand(make_batch):
    # p = (3/4, 1/4) at all four pixels; sums run over both tiles
    logits = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1).expand(2, 2, 1, 2)
    batch = make_batch([[[0, 1]], [[0, 0]]])
    tp, fn, fp = torch.tensor([2.25, 0.25]), torch.tensor([0.75, 0.75]), torch.tensor([0.75, 0.75])
    index = (tp + 1) / (tp + 0.7 * fn + 0.3 * fp + 1)
    expected = ((1 - index) ** (4 / 3)).mean()
    torch.testing.assert_close(FocalTversky()({"classes": logits}, batch), expected)


def test_is_dice_for_one_tile_when_balanced_and_unfocused(make_batch):
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    batch = make_batch(torch.arange(64).view(1, 8, 8) % 3)
    balanced = FocalTversky(alpha=0.5, beta=0.5, gamma=1.0, epsilon=0.5)
    torch.testing.assert_close(
        balanced({"classes": logits}, batch), Dice()({"classes": logits}, batch)
    )


def test_alpha_punishes_misses(make_batch):
    batch = make_batch([[[0, 0, 1, 1]]])
    misses = {"classes": torch.tensor([[[[9.0] * 4], [[0.0, 0.0, 0.0, 9.0]]]])}
    assert FocalTversky(0.9, 0.1)(misses, batch) != FocalTversky(0.1, 0.9)(misses, batch)


@pytest.mark.parametrize("options", [{"gamma": 0}, {"alpha": -0.1}, {"beta": -1}, {"epsilon": 0}])
def test_impossible_options(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        FocalTversky(**options)


def test_one_logit_scores_the_positive_class_alone(make_batch):
    # p = 3/4 at four pixels of two tiles, one of them a nucleus
    logits = torch.tensor(3.0).log().expand(2, 1, 1, 2)
    batch = make_batch([[[0, 1]], [[0, 0]]])
    index = torch.tensor((0.75 + 1) / (0.75 + 0.7 * 0.25 + 0.3 * 2.25 + 1))
    torch.testing.assert_close(
        FocalTversky(head="foreground")({"foreground": logits}, batch), (1 - index) ** (4 / 3)
    )
