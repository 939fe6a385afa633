import math

import pytest
import torch

from tissueseg.decoders.masked_attention import MaskedAttention, admissible, pooled
from tissueseg.errors import ConfigError

CHANNELS = 16


def made(**options):
    torch.manual_seed(0)
    return MaskedAttention(CHANNELS, **options)


def features(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dense(slot, x, foreground):
    """Every pixel attends to every foreground pixel: loops over tiles and heads, N × N scores."""
    results = []
    for tile, mask in zip(x.detach(), foreground, strict=True):
        tokens = tile.flatten(1).T
        centred = tokens - tokens.mean(1, keepdim=True)
        normed = centred / (centred.square().mean(1, keepdim=True) + slot.norm.eps).sqrt()
        normed = normed * slot.norm.weight + slot.norm.bias
        key_weight, value_weight = slot.key_value.weight.chunk(2)
        width = CHANNELS // slot.heads
        seen = mask.flatten() if mask.any() else torch.ones_like(mask).flatten()
        mixed = []
        for head in range(slot.heads):
            rows = slice(head * width, (head + 1) * width)
            query, key, value = (
                normed @ weight[rows].T for weight in (slot.query.weight, key_weight, value_weight)
            )
            scores = (query @ key.T / math.sqrt(width)).masked_fill(~seen, -math.inf)
            mixed.append(scores.softmax(1) @ value)
        out = torch.cat(mixed, 1) @ slot.out.weight.T + slot.out.bias
        results.append(tile + out.T.reshape(tile.shape))
    return torch.stack(results)


def logits_of(foreground):
    return (foreground.float() * 2 - 1)[:, None]


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (16, 16), (1, 9)])
@pytest.mark.parametrize("heads", [1, 2])
def test_small_tiles_equal_dense_masked_attention(size, heads):
    slot, x = made(heads=heads), features(3, CHANNELS, *size)
    foreground = features(3, *size, seed=2) > 0.8
    foreground[1] = False  # attends everywhere
    foreground[2] = True
    torch.testing.assert_close(slot(x, logits_of(foreground)), dense(slot, x, foreground))


@pytest.mark.parametrize("size", [(12, 12), (10, 7)])
def test_cells_of_like_pixels_equal_dense_attention_to_those_in_the_mask(size):
    slot = made(cells=4)
    cell = -(-max(size) // 4)
    coarse = features(2, CHANNELS, 4, 4)
    x = coarse.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., : size[0], : size[1]]
    foreground = features(2, *size, seed=3) > 0.5
    torch.testing.assert_close(slot(x, logits_of(foreground)), dense(slot, x, foreground))


def test_means_are_of_the_foreground_pixels_of_each_cell():
    grid = torch.arange(9.0).reshape(1, 1, 3, 3)
    mask = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 1]])[None, None]
    means, counts = pooled(grid, mask, cells=2)
    # cells: rows 0-1 × columns 0-1 (0 and 4), × column 2 (none), row 2 × columns 0-1 (7), × 2 (8)
    assert means.flatten().tolist() == [2.0, 0.0, 7.0, 8.0]
    assert counts.tolist() == [[2.0, 0.0, 1.0, 1.0]]


def test_a_logit_of_zero_is_foreground_and_below_is_not():
    logits = torch.tensor([[0.0, -1e-6], [3.0, -5.0]])[None, None]
    assert admissible(logits, logits).tolist() == [[[[1.0, 0.0], [1.0, 0.0]]]]


def test_coarse_logits_are_resized_before_the_threshold():
    logits = torch.tensor([[4.0, -1.0], [-9.0, -9.0]])[None, None]
    # bilinear: 4, 2.75, .25, −1 in the first row, .75, −.19 … in the second
    expected = [[1.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert admissible(logits, torch.zeros(1, 1, 4, 4))[0, 0].tolist() == expected


def test_background_pixels_are_no_keys():
    slot = made(cells=4)
    foreground = torch.zeros(1, 12, 12, dtype=torch.bool)
    foreground[:, 3:8, 2:5] = True
    x = features(1, CHANNELS, 12, 12)
    changed = torch.where(foreground[:, None], x, features(1, CHANNELS, 12, 12, seed=5))
    before, after = (slot(image, logits_of(foreground)) for image in (x, changed))
    inside = foreground.expand(CHANNELS, 12, 12)
    torch.testing.assert_close(before[0][inside], after[0][inside])
    everywhere = [slot(image, torch.ones(1, 1, 12, 12)) for image in (x, changed)]
    assert (everywhere[0] - everywhere[1])[0][inside].abs().max() > 1e-3


def test_an_empty_mask_is_the_same_as_a_full_one():
    slot, x = made(), features(2, CHANNELS, 24, 20)
    empty, full = (torch.full((2, 1, 6, 5), value) for value in (-9.0, 9.0))
    assert torch.equal(slot(x, empty), slot(x, full))


def test_a_tile_does_not_depend_on_the_others_of_its_batch_nor_on_the_mode():
    slot, x, mask = made(), features(3, CHANNELS, 20, 20), features(3, 1, 5, 5, seed=4)
    mask[1] = -1.0
    together = slot.train()(x, mask)
    alone = torch.cat([slot.eval()(x[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)
    assert torch.equal(together, slot(x, mask))


def test_gradient_reaches_every_parameter_and_the_features_but_not_the_mask():
    slot = made()
    x = features(2, CHANNELS, 40, 24).requires_grad_()
    mask = features(2, 1, 10, 6, seed=4).requires_grad_()
    slot(x, mask).square().mean().backward()
    for name, parameter in slot.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-6, name
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0
    assert mask.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [-9.0, 9.0, None])
def test_half_precision_stays_finite_forward_and_backward(dtype, value):
    slot = made().to(dtype)
    x = (30 * features(1, CHANNELS, 40, 40)).to(dtype).requires_grad_()
    mask = (
        features(1, 1, 10, 10, seed=4) - 1.5 if value is None else torch.full((1, 1, 10, 10), value)
    )
    out = slot(x, mask.to(dtype))
    out.float().mean().backward()
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in (x.grad, *(p.grad for p in slot.parameters())))


def test_autocast_changes_little():
    slot, x, mask = made(), features(2, CHANNELS, 40, 40), features(2, 1, 10, 10, seed=4)
    with torch.autocast("cpu", torch.bfloat16):
        lower = slot(x, mask)
    torch.testing.assert_close(lower.float(), slot(x, mask), atol=2e-2, rtol=2e-2)
    assert lower.isfinite().all()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_stays(layout):
    x = features(2, CHANNELS, 24, 20).contiguous(memory_format=layout)
    assert made()(x, features(2, 1, 6, 5)).is_contiguous(memory_format=layout)


def test_it_changes_features_and_keeps_no_more_scores_than_cells():
    slot, x = made(), features(1, CHANNELS, 50, 30)
    assert (slot(x, features(1, 1, 13, 8)) - x).abs().mean() > 1e-2
    means, counts = pooled(x, torch.ones(1, 1, 50, 30), slot.cells)
    assert means.shape == (1, 13 * 8, CHANNELS)  # cells of 4 px
    assert counts.sum() == 50 * 30


def test_it_compiles_in_one_graph():
    slot, x, mask = made(), features(2, CHANNELS, 24, 20), features(2, 1, 6, 5)
    compiled = torch.compile(slot, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, mask), slot(x, mask))


@pytest.mark.parametrize(("channels", "heads"), [(64, 4), (24, 3), (8, 1), (312, 4)])
def test_heads_have_at_least_eight_channels(channels, heads):
    assert MaskedAttention(channels).heads == heads


@pytest.mark.parametrize("key", ["heads", "cells"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "4", None])
def test_other_counts_are_refused(key, value):
    with pytest.raises(ConfigError, match=rf"decoder\.refine\.{key}=.*at least 1"):
        MaskedAttention(CHANNELS, **{key: value})
