"""The encoder contract on an encoder made to break it: dropout, batch statistics, live parameters."""

import pytest
import torch
from torch import nn

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.base import Encoder


class Restless(Encoder):
    """Everything in it would change its features if it were ever trained."""

    def __init__(self):
        super().__init__(EncoderSpec("restless", ("he",), (8,) * 4, 8))
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.freeze()

    def encode(self, image):
        return (self.layers(image),) * 4


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Restless()


def test_no_way_into_training_mode(encoder):
    whole = nn.ModuleDict({"encoder": encoder, "other": nn.Dropout()})
    for ask in (
        encoder.train,
        whole.train,
        lambda: encoder.train(True),
        lambda: encoder.requires_grad_(False),
    ):
        ask()
        assert not any(m.training for m in encoder.modules())
    assert whole["other"].training


def test_features_are_the_same_before_and_after_training_mode(encoder):
    image = torch.randn(2, 3, 16, 16)
    before = encoder(image)
    statistics = encoder.layers[1].running_mean.clone()
    after = encoder.train()(image)
    assert torch.equal(before.levels[0], after.levels[0])
    assert torch.equal(encoder.layers[1].running_mean, statistics)


def test_no_gradient_flows_through(encoder):
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    features = encoder(image)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(level.requires_grad for level in features.levels)
    assert features.image is image


@pytest.mark.parametrize(
    "name", ["layers.0.weight", "layers.1.running_mean", "layers.1.num_batches_tracked"]
)
def test_digest_changes_with_any_weight_or_buffer(encoder, name):
    before = encoder.digest()
    assert before == encoder.digest()
    encoder.state_dict()[name].view(-1)[0] += 1
    assert encoder.digest() != before


def test_digest_does_not_ask_how_a_weight_lies_in_memory(encoder):
    before = encoder.digest()
    assert encoder.to(memory_format=torch.channels_last).digest() == before
