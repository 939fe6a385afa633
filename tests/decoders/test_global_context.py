import math

import pytest
import torch

from tissueseg.decoders.attention import as_tokens, fitting_heads
from tissueseg.decoders.global_context import GlobalContext
from tissueseg.errors import ConfigError

CHANNELS = 16


def made(channels=CHANNELS, **options):
    torch.manual_seed(0)
    return GlobalContext(channels, **options)


def grid(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_token_takes_the_softmax_mean_of_all_values():
    slot, x = made(heads=2), grid(1, CHANNELS, 2, 3)
    tokens = x[0].flatten(1).T
    centred = tokens - tokens.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + slot.norm.eps).sqrt()
    query, key, value = (normed @ part.T for part in slot.qkv.weight.chunk(3))
    mixed = torch.zeros(6, CHANNELS)
    for head in (slice(0, 8), slice(8, 16)):
        for token in range(6):
            shares = (key[:, head] @ query[token, head] / math.sqrt(8)).softmax(0)
            mixed[token, head] = shares @ value[:, head]
    out = mixed @ slot.out.weight.T + slot.out.bias
    torch.testing.assert_close(slot(x)[0], x[0] + out.T.reshape(CHANNELS, 2, 3))


def test_without_scores_every_token_gets_the_mean_value():
    slot, x = made(8), grid(2, 8, 3, 3)
    with torch.no_grad():
        slot.qkv.weight[:8] = 0  # queries
        slot.qkv.weight[16:] = slot.out.weight[:] = torch.eye(8)
        slot.out.bias[:] = 0
    mean = slot.norm(as_tokens(x)).mean(1)[:, :, None, None]
    torch.testing.assert_close(slot(x), x + mean)


def test_a_change_in_one_corner_reaches_the_other():
    slot, x = made(), grid(1, CHANNELS, 9, 7)
    changed = x.clone()
    changed[0, 0, 0, 0] += 3
    assert (slot(changed) - slot(x))[0, :, -1, -1].abs().max() > 1e-4


@pytest.mark.parametrize("shape", [(1, 16, 15, 15), (2, 312, 4, 6), (3, 8, 1, 5)])
def test_gradient_reaches_every_parameter(shape):
    slot = made(shape[1])
    x = grid(*shape).requires_grad_()
    out = slot(x)
    assert out.shape == x.shape
    assert (out - x).abs().mean() > 1e-2
    out.square().mean().backward()
    for name, parameter in slot.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-7, name


def test_a_tile_does_not_depend_on_the_others_of_its_batch_nor_on_the_mode():
    slot, x = made(), grid(3, CHANNELS, 5, 4)
    together = slot.train()(x)
    alone = torch.cat([slot.eval()(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)
    assert torch.equal(together, slot(x))


def test_half_precision_stays_finite_and_autocast_changes_little():
    slot, x = made(), grid(2, CHANNELS, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        lower = slot(x)
    torch.testing.assert_close(lower.float(), slot(x), atol=2e-2, rtol=2e-2)
    assert slot.bfloat16()(x.bfloat16()).isfinite().all()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_stays(layout):
    x = grid(2, CHANNELS, 6, 5).contiguous(memory_format=layout)
    assert made()(x).is_contiguous(memory_format=layout)


def test_tokens_of_a_channels_last_grid_are_a_view():
    x = grid(2, CHANNELS, 6, 5).contiguous(memory_format=torch.channels_last)
    tokens = as_tokens(x)
    assert tokens.shape == (2, 30, CHANNELS)
    assert tokens.is_contiguous()
    assert tokens.data_ptr() == x.data_ptr()


def test_it_compiles_in_one_graph():
    slot, x = made(), grid(2, CHANNELS, 6, 5)
    compiled = torch.compile(slot, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), slot(x))


@pytest.mark.parametrize(
    ("channels", "at_most", "heads"),
    [
        (512, 8, 8),
        (312, 8, 8),
        (64, 8, 8),
        (40, 8, 5),
        (24, 8, 3),
        (8, 8, 1),
        (64, 3, 2),
        (4, 8, 1),
    ],
)
def test_heads_divide_the_channels_into_eight_or_more(channels, at_most, heads):
    assert fitting_heads(channels, at_most) == heads


@pytest.mark.parametrize("heads", [0, -2, 1.5, True, "8", None])
def test_other_heads_are_refused(heads):
    with pytest.raises(ConfigError, match=r"decoder\.context\.heads=.*at least 1"):
        made(heads=heads)
