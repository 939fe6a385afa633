import math

import pytest
import torch

from tissueseg.decoders.feature_gating import FeatureGating
from tissueseg.decoders.guides import resized
from tissueseg.errors import ConfigError


def image(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("floor", "expected"), [(0.0, [1.0, -3.0]), (0.2, [1.2, -3.2])])
def test_a_skip_is_weighed_by_the_probability_of_foreground(floor, expected):
    skip = torch.tensor([[[[2.0, -4.0]]]])
    logits = torch.tensor([[[[0.0, math.log(3)]]]])  # probabilities 1/2 and 3/4
    gated = FeatureGating(floor)(skip, logits)
    torch.testing.assert_close(gated.flatten(), torch.tensor(expected))


def test_background_shuts_the_skip_and_foreground_opens_it():
    skip = image(1, 8, 4, 4)
    shut, opened = (FeatureGating()(skip, torch.full((1, 1, 4, 4), v)) for v in (-200.0, 200.0))
    assert not shut.any()
    assert torch.equal(opened, skip)


def test_gradient_reaches_skip_and_logits_and_there_is_nothing_to_train():
    gate = FeatureGating()
    skip, logits = image(2, 8, 8, 6).requires_grad_(), image(2, 1, 4, 3).requires_grad_()
    gate(skip, logits).square().sum().backward()
    assert skip.grad.abs().min() > 0
    assert logits.grad.abs().min() > 0
    assert list(gate.state_dict()) == []


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 1)])
def test_logits_of_the_same_size_are_left_alone_and_others_resized(size):
    logits = image(2, 1, 4, 4)
    found = resized(logits, torch.zeros(2, 8, *size))
    assert found.shape == (2, 1, *size)
    assert (found is logits) == (size == (4, 4))


def test_resizing_is_bilinear_between_pixel_centres():
    found = resized(torch.tensor([[[[0.0, 4.0]]]]), torch.zeros(1, 1, 1, 4))
    assert found.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_the_skips_dtype_and_memory_format_stay():
    skip = image(2, 8, 6, 4).bfloat16().contiguous(memory_format=torch.channels_last)
    gated = FeatureGating()(skip, image(2, 1, 3, 2))
    assert gated.dtype == torch.bfloat16
    assert gated.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(gated, skip)


def test_it_compiles_in_one_graph():
    gate, skip, logits = FeatureGating(0.1), image(1, 8, 6, 4), image(1, 1, 3, 2)
    compiled = torch.compile(gate, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(skip, logits), gate(skip, logits))


@pytest.mark.parametrize("floor", [-0.1, 1.0, 2, math.nan, "0", None, True])
def test_other_floors_are_refused(floor):
    with pytest.raises(ConfigError, match=r"decoder\.gate\.floor=.*wanted"):
        FeatureGating(floor)
