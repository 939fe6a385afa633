import pytest
import torch
from stores import choices, compose

from tissueseg.building import build
from tissueseg.contracts import EncoderSpec
from tissueseg.decoders.initialisation import OwnDraws


def test_a_part_draws_the_same_whatever_was_drawn_before():
    torch.manual_seed(3)
    draws = OwnDraws()
    with draws.of("a"):
        first = torch.rand(4)
        torch.rand(100)
    with draws.of("b"):
        other = torch.rand(4)
    after = torch.rand(1)
    torch.manual_seed(3)
    again = OwnDraws()
    with again.of("a"):
        assert torch.equal(torch.rand(4), first)
    assert not torch.equal(other, first)
    assert torch.equal(torch.rand(1), after)


def test_the_next_network_gets_other_numbers():
    torch.manual_seed(3)
    with OwnDraws().of("a"):
        first = torch.rand(4)
    with OwnDraws().of("a"):
        assert not torch.equal(torch.rand(4), first)


@pytest.fixture(scope="module")
def baseline():
    return made("baseline")


def made(name):
    config = compose("setting=untrained", f"decoder={name}", "decoder.share=trunk")
    torch.manual_seed(0)
    spec = EncoderSpec("made_up", ("he",), (32,) * 4, 8)
    return build(config.decoder)(spec=spec, image_channels=3, n_classes=5).state_dict()


@pytest.mark.parametrize("name", choices("decoder"))
def test_every_variant_starts_from_the_baselines_trunk(baseline, name):
    """What they share by name is equal in every bit: decoders are compared, not initial weights."""
    variant = made(name)
    shared = [key for key in baseline if not key.startswith("decoder0_header")]
    assert all(torch.equal(variant[key], baseline[key]) for key in shared)
    heads = [key for key in baseline if key in variant]
    assert all(torch.equal(variant[key], baseline[key]) for key in heads)
