"""Attention among the tokens that are seen, against masked attention over all of them."""

import pytest
import torch
import torch.nn.functional as F
from virtues_made import CHANNELS, DIM, HEADS, HIDDEN, PATCH, image, make, random

from tissueseg.data.image_tiles import ImageBatch
from tissueseg.encoders.virtues_layers import Block, dense, normed, rotate, turns
from tissueseg.pretraining.markers import MarkerAutoencoder
from tissueseg.pretraining.masks import MarkerMask
from tissueseg.pretraining.visible import Visible, turned

GRID = (4, 4)
CELLS = GRID[0] * GRID[1]


def seen_tokens(case, tiles=3):
    """(B, 1 + C, N) bool; the summary is always seen."""
    draw = torch.Generator().manual_seed(1)
    seen = torch.rand(tiles, 1 + CHANNELS, CELLS, generator=draw) < 0.3
    seen[:, 0] = True
    if case == "channels without a token":
        seen[0, 2] = False
        seen[1, 1:4] = False
    if case == "cells with the summary alone":
        seen[:, 1:, ::3] = False
    if case == "summaries alone":
        seen[:, 1:] = False
    if case == "all":
        seen[:] = True
    return seen


def masked(block, tokens, seen, turn):
    """The block over all tokens (B, S, N, D), where those that are hidden are no keys."""
    x = normed(tokens, block.norm1, tokens.dtype)
    q, k, v = dense(x, block.attention.qkv).unflatten(-1, (HEADS, 3, -1)).unbind(-2)
    if block.kind == "h":
        q, k = (rotate(part[..., None, :], turn)[..., 0, :] for part in (q, k))
    tile, channel, cell = torch.ones_like(seen).nonzero(as_tuple=True)
    axis = channel if block.kind == "h" else cell
    together = (tile[:, None] == tile) & (axis[:, None] == axis) & seen.flatten()
    together |= torch.eye(len(tile), dtype=torch.bool)  # a hidden query needs some key
    q, k, v = (part.flatten(0, 2).transpose(0, 1) for part in (q, k, v))
    scores = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(~together, -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1).view(tokens.shape)
    tokens = tokens + dense(mixed, block.attention.out)
    hidden = F.gelu(dense(normed(tokens, block.norm2, tokens.dtype), block.up))
    return tokens + dense(hidden, block.down)


@pytest.mark.parametrize("kind", ["h", "v"])
@pytest.mark.parametrize(
    "case",
    ["some", "all", "channels without a token", "cells with the summary alone", "summaries alone"],
)
def test_tokens_attend_to_those_seen_and_to_no_others(kind, case):
    torch.manual_seed(0)
    block, seen = Block(kind, DIM, HEADS, HIDDEN), seen_tokens(case)
    turn = turns(GRID, DIM // HEADS, torch.device("cpu"), torch.float32)
    tokens = torch.randn(*seen.shape, DIM)
    wanted = masked(block, tokens, seen, turn)[seen]
    visible = Visible.of(seen)
    given = tokens[visible.tile, visible.channel, visible.cell]
    found = turned(block, given, visible, turn, torch.float32)
    assert found.isfinite().all()  # those that fill up, too
    found = found[: len(wanted)]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_many_sequences_are_attended_in_parts_to_the_same_end(monkeypatch):
    network, tiles = autoencoder(), image(2, size=(16, 16))
    hidden = torch.rand(2, CHANNELS, CELLS, generator=torch.Generator().manual_seed(0)) < 0.7
    with torch.no_grad():
        whole = network(batch_of(tiles, hidden)).predicted
        monkeypatch.setattr("tissueseg.pretraining.visible._MOST_SEQUENCES", 3)
        torch.testing.assert_close(network(batch_of(tiles, hidden)).predicted, whole)


def test_a_token_is_found_where_it_stands():
    seen = seen_tokens("some")
    visible = Visible.of(seen)
    count = int(seen.sum())
    assert (visible.place < count).equal(seen)
    assert (visible.place[~seen] == len(visible.tile)).all()
    place = visible.place[visible.tile, visible.channel, visible.cell]
    assert place[:count].equal(torch.arange(count))


def test_what_fills_up_takes_no_part():
    """Neither in what comes out nor in what is learnt from it."""
    seen = seen_tokens("channels without a token")
    visible, count = Visible.of(seen), int(seen.sum())
    assert len(visible.tile) > count
    turn = turns(GRID, DIM // HEADS, torch.device("cpu"), torch.float32)
    block = Block("h", DIM, HEADS, HIDDEN)
    tokens = torch.randn(len(visible.tile), DIM, requires_grad=True)
    changed = torch.cat([tokens[:count], tokens[count:] + 5])
    one, two = (turned(block, x, visible, turn, torch.float32)[:count] for x in (tokens, changed))
    assert torch.equal(one, two)
    (gradient,) = torch.autograd.grad(one.square().sum(), tokens)
    assert gradient[:count].any(-1).all()
    assert not gradient[count:].any()


def autoencoder(pattern="hvhv", decoded=None):
    return of(random(pattern), decoded)


def of(encoder, decoded=None):
    return MarkerAutoencoder(encoder, encoder.vectors, MarkerMask(), depth=1, decoded=decoded)


def batch_of(tiles, hidden, decoded=None, present=None):
    count = len(tiles)
    if decoded is None:
        decoded = torch.arange(CHANNELS).expand(count, -1)
    if present is None:
        present = torch.ones(count, CHANNELS, dtype=torch.bool)
    markers = torch.arange(CHANNELS).expand(count, -1)
    place = torch.zeros(count, 2, dtype=torch.int64)
    return ImageBatch(tiles, present, markers, hidden, decoded, place[:, 0], place)


def encoded(network, batch):
    """What the decoder is given: seen tokens after the encoder, and where they stand."""
    kept = []
    pixels = network._pixels
    network._pixels = lambda visible, tokens, *rest: (
        kept.append((visible, tokens)) or pixels(visible, tokens, *rest)
    )
    network(batch)
    return kept[0]


@pytest.mark.parametrize("pattern", ["hvhv", "vvhh", "hhvv", "hvvh"])
def test_with_nothing_hidden_the_encoder_is_the_one_that_is_used_later(pattern):
    network, tiles = autoencoder(pattern), image(3, size=(16, 16))
    hidden = torch.zeros(3, CHANNELS, CELLS, dtype=torch.bool)
    with torch.no_grad():
        visible, tokens = encoded(network, batch_of(tiles, hidden))
    final, levels = network.encoder.summaries(tiles)
    found = tokens[visible.place[:, 0]].transpose(1, 2).unflatten(2, GRID)
    torch.testing.assert_close(found, final, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, levels[-1], atol=1e-5, rtol=1e-5)  # it has no last norm


def test_a_last_norm_stands_before_the_decoder(tmp_path):
    network, tiles = of(make(tmp_path)), image(2, size=(16, 16))
    hidden = torch.zeros(2, CHANNELS, CELLS, dtype=torch.bool)
    with torch.no_grad():
        visible, tokens = encoded(network, batch_of(tiles, hidden))
    found = tokens[visible.place[:, 0]].transpose(1, 2).unflatten(2, GRID)
    final, levels = network.encoder.summaries(tiles)
    torch.testing.assert_close(found, final, atol=2e-5, rtol=1e-4)
    assert (final - levels[-1]).abs().max() > 0.1


def test_channels_hidden_as_a_whole_are_as_if_they_were_absent():
    network, tiles = autoencoder(), image(2, size=(16, 16))
    present = torch.ones(2, CHANNELS, dtype=torch.bool)
    present[0, [1, 3]] = False
    hidden = (~present)[..., None].expand(-1, -1, CELLS)
    with torch.no_grad():
        visible, tokens = encoded(network, batch_of(tiles, hidden))
    final, _ = network.encoder.summaries(tiles, present)
    found = tokens[visible.place[:, 0]].transpose(1, 2).unflatten(2, GRID)
    torch.testing.assert_close(found, final, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hides", ["some", "all"])
def test_gradients_reach_every_parameter(hides):
    """Distributed training waits for a gradient of each, whatever was drawn."""
    network, tiles = autoencoder(decoded=2), image(2, size=(16, 16))
    hidden = torch.ones(2, CHANNELS, CELLS, dtype=torch.bool)
    if hides == "some":
        hidden = torch.rand(hidden.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    network.loss(network(batch_of(tiles, hidden, torch.tensor([[0, 1], [4, 2]])))).backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == set()
    if hides == "some":
        still = {name for name, p in network.named_parameters() if not p.grad.any()}
        assert still == set()


def test_hidden_pixels_change_nothing_of_what_is_filled_in():
    network, tiles = autoencoder(), image(2, size=(16, 16))
    hidden = torch.rand(2, CHANNELS, CELLS, generator=torch.Generator().manual_seed(0)) < 0.7
    cells = hidden.unflatten(2, GRID).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    other = torch.where(cells, tiles + 3, tiles)
    with torch.no_grad():
        one, two = (network(batch_of(x, hidden)) for x in (tiles, other))
        seen, changed = (encoded(network, batch_of(x, hidden))[1] for x in (tiles, other))
    assert torch.equal(one.predicted, two.predicted)
    assert torch.equal(seen, changed)
    assert not torch.equal(one.target, two.target)


def test_tiles_of_a_batch_do_not_mix():
    network, tiles = autoencoder(), image(3, size=(16, 16))
    hidden = torch.rand(3, CHANNELS, CELLS, generator=torch.Generator().manual_seed(0)) < 0.7
    other = tiles.clone()
    other[1] += 1
    with torch.no_grad():
        one, two = (network(batch_of(x, hidden)).predicted for x in (tiles, other))
        alone = network(batch_of(tiles[2:], hidden[2:])).predicted
    torch.testing.assert_close(one[[0, 2]], two[[0, 2]], atol=1e-6, rtol=0)
    torch.testing.assert_close(one[2:], alone, atol=1e-5, rtol=1e-5)
    assert (one[1] - two[1]).abs().max() > 1e-3


def test_what_is_seen_of_a_channel_matters_to_what_is_hidden_of_others():
    network, tiles = autoencoder(), image(1, size=(16, 16))
    hidden = torch.zeros(1, CHANNELS, CELLS, dtype=torch.bool)
    hidden[:, 0] = True
    other = tiles.clone()
    other[:, 1] += 1
    with torch.no_grad():
        one, two = (network(batch_of(x, hidden)).predicted[:, 0] for x in (tiles, other))
    assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_close_to_float32(dtype):
    network, tiles = autoencoder(), image(2, size=(16, 16))
    hidden = torch.rand(2, CHANNELS, CELLS, generator=torch.Generator().manual_seed(0)) < 0.7
    batch = batch_of(tiles, hidden)
    wanted = network(batch).predicted
    with torch.autocast("cpu", dtype):
        found = network(batch).predicted
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).norm() < 0.03 * wanted.norm()
    found.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
