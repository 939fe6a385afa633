import pytest
import torch

from tissueseg.errors import ConfigError
from tissueseg.losses.binary_cross_entropy import BinaryCrossEntropy
from tissueseg.losses.deep_supervision import DeepSupervision
from tissueseg.losses.dice import Dice

SCALES = {"boundary_stride4": 0.25, "boundary_stride2": 0.5, "boundary": 1.0}
BCE = {"bce": {"factor": 1.0, "loss": BinaryCrossEntropy}}


def test_scales_and_losses_by_hand(make_batch):
    # all logits 0: every pixel costs log 2; of 8 × 8 pixels p = 1/2, Dice = (64 + 1)/(32 + 64 + 1)
    outputs = {
        "boundary_stride4": torch.zeros(1, 1, 2, 2),
        "boundary_stride2": torch.zeros(1, 1, 4, 4),
        "boundary": torch.zeros(1, 1, 8, 8),
    }
    batch = make_batch(torch.ones(1, 8, 8, dtype=torch.int64))
    both = BCE | {"dice": {"factor": 2.0, "loss": Dice}}
    expected = 1.75 * (torch.tensor(2.0).log() + 2 * (1 - torch.tensor(65 / 97)))
    torch.testing.assert_close(DeepSupervision(SCALES, both)(outputs, batch), expected)


def test_it_is_the_sum_of_its_scales(random_batch, random_outputs):
    alone = [w * BinaryCrossEntropy(h)(random_outputs, random_batch) for h, w in SCALES.items()]
    torch.testing.assert_close(
        DeepSupervision(SCALES, BCE)(random_outputs, random_batch), sum(alone)
    )


def test_it_reads_every_scale_that_has_a_weight():
    assert DeepSupervision(SCALES, BCE).heads == tuple(SCALES)
    assert DeepSupervision(SCALES | {"boundary": 0}, BCE).heads == tuple(SCALES)[:2]


@pytest.mark.parametrize(
    ("weights", "losses", "said"),
    [
        ({"boundary": -1}, BCE, r"weights\.boundary=-1"),
        ({"boundary": 0}, BCE, r"weights has no entry of positive weight"),
        ({}, BCE, r"weights has no entry"),
        ({"boundary": 1}, {}, r"losses has no entry"),
        (
            {"boundary": 1},
            {"bce": {"factor": "x", "loss": BinaryCrossEntropy}},
            r"losses\.bce\.factor=x",
        ),
        ({"hv": 1}, BCE, "head=hv; choose from"),
        (None, BCE, r"weights=null, wanted a name and a weight each"),
        ({"boundary": 1}, None, r"losses=null, wanted a name, factor and loss a term"),
        ({"boundary": 1}, {"bce": 3}, r"losses\.bce=3, wanted factor and loss, or null"),
    ],
)
def test_options_that_cannot_be_used(weights, losses, said):
    with pytest.raises(ConfigError, match=said):
        DeepSupervision(weights, losses)
