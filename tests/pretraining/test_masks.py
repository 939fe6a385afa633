"""Which tokens are hidden: shares as said, counts exact, and each number from its own draw."""

import pytest
import torch
from torch import Generator

from tissueseg.errors import ConfigError
from tissueseg.pretraining.masks import MarkerMask, PatchMask


def drawn(mask, tiles=400, channels=5, cells=16, seed=0):
    return mask.draw(tiles, channels, cells, Generator().manual_seed(seed))


def test_shares_of_channels_spread_evenly_between_their_limits():
    shares = drawn(MarkerMask(0.6, 1.0, whole=0.0), cells=100).float().mean(-1).flatten()
    assert shares.min() >= 0.6
    assert shares.mean().item() == pytest.approx(0.8, abs=0.01)
    assert shares.std().item() == pytest.approx(0.4 / 12**0.5, rel=0.05)


def test_channels_are_hidden_as_a_whole_as_often_as_said():
    hidden = drawn(MarkerMask(0.2, 0.8, whole=0.3)).all(-1)
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.03)
    each = hidden.float().mean(0)  # of every channel, whatever its place
    assert each.min() > 0.2
    assert each.max() < 0.4


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_share_is_a_count_of_tokens(share):
    hidden = drawn(MarkerMask(share, share, whole=0.0))
    assert (hidden.sum(-1) == 16 * share).all()


def test_every_token_is_as_likely_to_be_hidden_as_any_other():
    often = drawn(MarkerMask(0.5, 0.5, whole=0.0)).float().mean((0, 1))
    assert (often - 0.5).abs().max() < 0.06


@pytest.mark.parametrize("mask", [MarkerMask(), MarkerMask(whole=1.0)])
def test_the_same_generator_hides_the_same(mask):
    assert torch.equal(drawn(mask, seed=3), drawn(mask, seed=3))
    assert drawn(MarkerMask(whole=1.0)).all()
    assert not torch.equal(drawn(MarkerMask(), seed=3), drawn(MarkerMask(), seed=4))


@pytest.mark.parametrize(("share", "count"), [(0.75, 12), (0.5, 8), (0.01, 0), (0.999, 15)])
def test_every_tile_hides_as_many_patches_and_shows_one_at_least(share, count):
    hidden = PatchMask(share).draw(50, 16, Generator().manual_seed(0))
    assert hidden.shape == (50, 16)
    assert (hidden.sum(-1) == count).all()
    assert len(hidden.unique(dim=0)) > 5 or not count


@pytest.mark.parametrize("cells", [5, 9, 49, 64, 100, 196, 256])
def test_rounding_loses_no_patch(cells):
    for wanted in range(1, cells):
        hidden = PatchMask(wanted / cells).draw(1, cells, Generator().manual_seed(0))
        assert hidden.sum() == wanted


@pytest.mark.parametrize(
    "numbers",
    [
        {"lowest": 0.9, "highest": 0.6},
        {"lowest": -0.1},
        {"highest": 1.1},
        {"lowest": 0.0, "highest": 0.0},
        {"whole": -0.1},
        {"whole": 1.1},
        {"lowest": float("nan")},
    ],
)
def test_numbers_that_are_no_shares_are_refused(numbers):
    with pytest.raises(ConfigError, match="0 ≤ lowest ≤ highest ≤ 1"):
        MarkerMask(**numbers)


@pytest.mark.parametrize("share", [0.0, 1.0, -1, 1.5, float("nan")])
def test_to_hide_nothing_or_everything_of_a_tile_is_refused(share):
    with pytest.raises(ConfigError, match=r"mask.share=.*between 0 and 1"):
        PatchMask(share)
