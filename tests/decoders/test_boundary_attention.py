import math

import pytest
import torch

from tissueseg.decoders.boundary_attention import BoundaryAttention
from tissueseg.errors import ConfigError


def image(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(done=1.0, **options):
    gate = BoundaryAttention(**options)
    gate.set_progress(done)
    return gate


def test_features_are_raised_by_the_probability_of_a_boundary():
    x = torch.tensor([[[[1.0, -2.0]], [[3.0, 4.0]]]])
    logits = torch.tensor([[[[0.0, math.log(3)]]]])  # probabilities 1/2 and 3/4
    expected = [[[[2.0, -5.0]], [[6.0, 10.0]]]]  # × (1 + 2/2) and × (1 + 2·3/4)
    torch.testing.assert_close(made(alpha=2.0)(x, logits), torch.tensor(expected))


def test_a_new_one_changes_nothing():
    x = image(2, 8, 6, 6)
    gate = BoundaryAttention()
    assert gate.alpha == 0
    assert gate.alpha.dtype == torch.float32
    assert torch.equal(gate(x, image(2, 1, 6, 6)), x)


@pytest.mark.parametrize(
    ("warmup", "done", "alpha"),
    [
        (0.1, 0, 0),
        (0.1, 0.05, 1),
        (0.1, 0.1, 2),
        (0.1, 0.9, 2),
        (1, 0.25, 0.5),
        (0, 0, 2),
        (1, 3, 2),
    ],
)
def test_alpha_rises_over_the_warm_up(warmup, done, alpha):
    assert made(done, alpha=2.0, warmup=warmup).alpha.item() == pytest.approx(alpha)


def test_alpha_may_fall_again_when_training_is_set_back():
    gate = made(0.5)
    gate.set_progress(0.05)
    assert gate.alpha.item() == pytest.approx(0.5)


def test_loaded_state_brings_its_alpha():
    state = made(0.03).state_dict()
    assert list(state) == ["alpha"]
    gate = BoundaryAttention()
    gate.load_state_dict(state)
    assert gate.alpha.item() == pytest.approx(0.3)
    x, logits = image(1, 8, 4, 4), image(1, 1, 4, 4)
    assert torch.equal(gate(x, logits), made(0.03)(x, logits))


def test_gradient_reaches_features_and_logits_and_there_is_nothing_to_train():
    gate = made()
    x, logits = image(1, 8, 8, 8).requires_grad_(), image(1, 1, 4, 4).requires_grad_()
    gate(x, logits).square().sum().backward()
    assert x.grad.abs().min() > 0
    assert logits.grad.abs().min() > 0
    assert list(gate.parameters()) == []


def test_coarse_logits_are_resized():
    gate = made()
    x, logits = torch.ones(1, 2, 4, 4), torch.tensor([[[[-8.0, 8.0]]]])
    rows = gate(x, logits)[0, 0]
    # bilinear between pixel centres: −8, −4, 4, 8
    expected = 1 + torch.tensor([-8.0, -4.0, 4.0, 8.0]).sigmoid()
    torch.testing.assert_close(rows, expected.expand(4, 4))


def test_the_features_dtype_and_memory_format_stay():
    x = image(2, 8, 6, 4).bfloat16().contiguous(memory_format=torch.channels_last)
    out = made()(x, image(2, 1, 3, 2))
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(out, x)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[[[-1e4, 1e4]]]], dtype=torch.float16)
    out = made(alpha=2.0)(torch.ones(1, 1, 1, 2, dtype=torch.float16), logits)
    assert out.flatten().tolist() == [1.0, 3.0]


def test_it_compiles_in_one_graph_and_follows_its_alpha():
    gate, x, logits = made(), image(2, 8, 6, 4), image(2, 1, 3, 2)
    compiled = torch.compile(gate, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, logits), gate(x, logits))
    gate.set_progress(0.0)
    torch.testing.assert_close(compiled(x, logits), x)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", 0),
        ("alpha", -0.1),
        ("alpha", math.inf),
        ("alpha", math.nan),
        ("alpha", "1"),
        ("alpha", True),
        ("warmup", -0.1),
        ("warmup", 1.1),
        ("warmup", math.nan),
        ("warmup", None),
    ],
)
def test_other_values_are_refused(key, value):
    with pytest.raises(ConfigError, match=rf"decoder\.boundary_attention\.{key}=.*wanted"):
        BoundaryAttention(**{key: value})
