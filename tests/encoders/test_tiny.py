"""The tiny encoder: random, but the same random numbers every time."""

import pytest
import torch
from stores import data_spec

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.tiny import TinyEncoder
from tissueseg.errors import ConfigError


def make(seed=0, channels=(16,) * 4, heads=4, patch_px=8):
    spec = EncoderSpec("tiny", ("he_sp",), channels, patch_px, random_init=True)
    return TinyEncoder(spec, data_spec("he_sp"), heads, seed)


def test_the_seed_alone_makes_the_weights():
    torch.manual_seed(1)
    one = make()
    torch.manual_seed(2)
    assert make().digest() == one.digest()
    assert make(seed=1).digest() != one.digest()


def test_the_global_random_state_is_left_alone():
    state = torch.random.get_rng_state()
    make()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("patch_px", "tile"), [(8, (32, 48)), (16, (64, 16)), (8, (8, 8))])
def test_levels_are_unlike_and_on_the_token_grid(patch_px, tile):
    encoder = make(patch_px=patch_px)
    levels = encoder(torch.randn(2, 5, *tile)).levels
    assert {tuple(x.shape) for x in levels} == {(2, 16, tile[0] // patch_px, tile[1] // patch_px)}
    assert len({x.sum().item() for x in levels}) == 4


def test_tiles_of_a_batch_do_not_mix():
    encoder, image = make(), torch.randn(3, 5, 32, 32)
    together = encoder(image).levels[3]
    torch.testing.assert_close(together[1:2], encoder(image[1:2]).levels[3], atol=1e-5, rtol=1e-4)


def test_a_token_sees_the_whole_tile():
    encoder, image = make(), torch.randn(1, 5, 32, 32)
    other = image.clone()
    other[..., 24:, 24:] += 1  # the last patch
    first = (encoder(image).levels[3] - encoder(other).levels[3])[0, :, 0, 0]
    assert first.abs().max() > 0


def test_weights_are_drawn_in_the_order_they_always_were():
    encoder = make(seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        embed = torch.nn.Conv2d(5, 16, 8, 8)
        layers = [torch.nn.Linear(a, b) for a, b in ((16, 48), (16, 16), (16, 32), (32, 16))]
    block = encoder.blocks[0]
    ours = (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2)
    assert torch.equal(encoder.patch_embed.weight, embed.weight)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(ours, layers, strict=True))


@pytest.mark.parametrize("options", [{"channels": (16, 32, 16, 16)}, {"heads": 3}])
def test_sizes_it_cannot_have_are_refused(options):
    with pytest.raises(ConfigError, match=r"encoder.*channels.*heads"):
        make(**options)
