import pytest
import torch

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.losses.binary_cross_entropy import BinaryCrossEntropy


def test_two_pixels_by_hand(make_batch):
    logits = torch.tensor([3.0, 1 / 3]).log().view(1, 1, 1, 2)  # p = 3/4, 1/4
    batch = make_batch([[[1, 0]]], boundary=[[[[1.0, 0.0]]]])
    once = -torch.tensor(0.75).log()
    outputs = {"boundary": logits, "foreground": -logits}
    torch.testing.assert_close(BinaryCrossEntropy("boundary")(outputs, batch), once)
    torch.testing.assert_close(BinaryCrossEntropy("boundary", 3.0)(outputs, batch), 2 * once)
    torch.testing.assert_close(BinaryCrossEntropy("boundary", 0.5)(outputs, batch), 0.75 * once)
    torch.testing.assert_close(
        BinaryCrossEntropy("foreground")(outputs, batch), -torch.tensor(0.25).log()
    )


def test_untyped_nuclei_count_and_unknown_ground_does_not(make_batch):
    # IGNORE with an instance: a nucleus without type; IGNORE without: unknown
    batch = make_batch([[[IGNORE, IGNORE]]], boundary=[[[[1.0, 1.0]]]], labels=[[[4, 0]]])
    logits = torch.zeros(1, 1, 1, 2, requires_grad=True)
    value = BinaryCrossEntropy("boundary")({"boundary": logits}, batch)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(2.0).log())
    assert logits.grad.flatten().tolist() == [-0.5, 0.0]


def test_coarse_logits_meet_the_fine_truth(make_batch):
    # 1 × 2 logits on 2 × 4 pixels: the columns read 0, 1, 3, 4 after interpolation
    logits = torch.tensor([[[[0.0, 4.0]]]])
    batch = make_batch([[[0, 0, 1, 1], [IGNORE, 0, 1, 1]]])
    at_tile = torch.tensor([0.0, 1.0, 3.0, 4.0])
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
    each = torch.nn.functional.softplus(signs * at_tile)
    expected = (2 * each.sum() - each[0]) / 7
    value = BinaryCrossEntropy("foreground_stride2")({"foreground_stride2": logits}, batch)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("head", ["classes", "hv", "boundry", None])
def test_heads_of_more_than_one_logit_are_refused(head):
    with pytest.raises(ConfigError, match=f"head={head}; choose from foreground, boundary"):
        BinaryCrossEntropy(head)


@pytest.mark.parametrize("weight", [0, -1.0, float("inf"), float("nan")])
def test_weights_that_make_no_sense(weight):
    with pytest.raises(ConfigError, match="pos_weight"):
        BinaryCrossEntropy("boundary", weight)
