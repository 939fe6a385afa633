"""What every module that can fill a slot promises: exact gradients, and keys limited to the mask."""

import pytest
import torch
from torch.autograd import gradcheck

from tissueseg.decoders.boundary_attention import BoundaryAttention
from tissueseg.decoders.feature_gating import FeatureGating
from tissueseg.decoders.global_context import GlobalContext
from tissueseg.decoders.masked_attention import MaskedAttention

C, SIDE = 8, 4


def built(kind):
    torch.manual_seed(0)
    if kind is BoundaryAttention:
        module = kind(alpha=0.7)
        module.set_progress(1.0)
        return module.double()
    return (kind(floor=0.2) if kind is FeatureGating else kind(C)).double()


def grids():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, C, SIDE, SIDE, generator=generator, dtype=torch.float64)
    guide = torch.randn(1, 1, SIDE // 2, SIDE // 2, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), guide.requires_grad_()


@pytest.mark.parametrize("kind", [BoundaryAttention, FeatureGating, GlobalContext, MaskedAttention])
def test_gradients_are_those_of_the_function_by_all_that_goes_in(kind):
    """A cut on the way would train a layer by half of what it does."""
    module, (x, guide) = built(kind), grids()
    weights = tuple(module.parameters())
    if kind is GlobalContext:
        assert gradcheck(lambda x, *_: module(x), (x, *weights))
    elif kind is MaskedAttention:  # its mask is a decision, which has no slope
        fixed = guide.detach()
        assert gradcheck(lambda x, *_: module(x, fixed), (x, *weights))
    else:
        assert gradcheck(module, (x, guide))


def test_masked_attention_sees_the_foreground_and_nothing_else():
    module, (x, _) = built(MaskedAttention), grids()
    mask = torch.full((1, 1, SIDE, SIDE), -9.0, dtype=torch.float64)
    mask[..., :2] = 9.0  # the left half is foreground
    changed_left, changed_right = x.detach().clone(), x.detach().clone()
    changed_left[:, :4, :, 0] += 1.0
    changed_right[:, :4, :, 3] += 1.0
    with torch.no_grad():
        out, left, right = (module(v, mask) for v in (x, changed_left, changed_right))
    assert (left[..., 2] - out[..., 2]).abs().max() > 1e-6  # unchanged itself, it saw the change
    torch.testing.assert_close(right[..., :3], out[..., :3], atol=1e-12, rtol=0)
    assert (module(x, -mask) - out).abs().max() > 1e-6


def test_masked_attention_without_foreground_is_attention_to_everything():
    module, (x, _) = built(MaskedAttention), grids()
    nothing = torch.full((1, 1, SIDE, SIDE), -9.0, dtype=torch.float64)
    torch.testing.assert_close(module(x, nothing), module(x, -nothing))
