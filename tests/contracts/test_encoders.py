"""What every encoder in configs/encoder promises, built as `assembly` builds it."""

import pytest
import torch
from stores import choices, compose
from torch import nn

from tissueseg.command import build
from tissueseg.contracts import LEVELS, Modality


@pytest.fixture(scope="module", params=choices("encoder"))
def config(request):
    return compose("setting=demo", f"encoder={request.param}").encoder


def make(config):
    spec = build(config.spec)
    return build(config)(image_channels=channels_of(spec))


def channels_of(spec):
    return 3 if spec.modalities[0] == Modality.HE else 5


@pytest.fixture(scope="module")
def encoder(config):
    return make(config)


def image_for(encoder, grid=(2, 3), batch=2):
    sides = (side * encoder.spec.stride_px for side in grid)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels_of(encoder.spec), *sides, generator=generator)


@pytest.mark.parametrize("grid", [(2, 3), (5, 4)])
def test_features_are_what_the_spec_says(encoder, grid):
    image = image_for(encoder, grid)
    features = encoder(image)
    assert len(features.levels) == LEVELS == len(encoder.spec.channels)
    shapes = [tuple(level.shape) for level in features.levels]
    assert shapes == [(2, width, *grid) for width in encoder.spec.channels]
    assert all(level.isfinite().all() for level in features.levels)
    assert torch.equal(features.image, image)


def test_it_stays_frozen(encoder):
    holder = nn.ModuleList([encoder])
    for switch in (encoder.train, holder.train):
        switch()
        assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    image = image_for(encoder).requires_grad_()
    assert not any(level.requires_grad for level in encoder(image).levels)


def test_the_same_image_gives_the_same_features(encoder):
    image = image_for(encoder)
    once, twice = encoder(image), encoder.train()(image)
    assert all(torch.equal(a, b) for a, b in zip(once.levels, twice.levels, strict=True))


def test_a_second_one_is_the_same_and_leaves_the_random_state(config, encoder):
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    assert make(config).digest() == encoder.digest()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_digest_knows_every_weight(config):
    encoder = make(config)
    seen = {encoder.digest()}
    for value in encoder.state_dict().values():
        value.view(-1)[-1] += 1
        seen.add(encoder.digest())
    assert len(seen) == 1 + len(encoder.state_dict())


def test_random_weights_are_named_so(encoder):
    assert encoder.spec.label.endswith("_random_init") == encoder.spec.random_init
