"""Parts of transformers against their formulas."""

import torch
import torch.nn.functional as F
from torch import nn

from tissueseg.encoders.layers import MLP, Attention, Block, SwiGLU, seeded

DIM = 16


def test_attention_is_softmax_of_each_heads_products():
    attention, tokens = Attention(DIM, 4), torch.randn(2, 5, DIM)
    query, key, value = attention.qkv(tokens).chunk(3, dim=-1)
    mixed = []
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 2
        mixed.append(scores.softmax(-1) @ value[..., part])
    torch.testing.assert_close(attention(tokens), attention.proj(torch.cat(mixed, -1)))


def test_swiglu_gates_the_second_half_by_the_first():
    swiglu, tokens = SwiGLU(DIM, 6), torch.randn(2, 5, DIM)
    both = tokens @ swiglu.fc1.weight.T + swiglu.fc1.bias
    expected = both[..., :6] * torch.sigmoid(both[..., :6]) * both[..., 6:]
    torch.testing.assert_close(swiglu(tokens), expected @ swiglu.fc2.weight.T + swiglu.fc2.bias)


def test_layer_scale_multiplies_both_branches():
    torch.manual_seed(0)
    tokens = torch.randn(1, 3, DIM)
    block = Block(DIM, nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), layer_scale=True)
    with torch.no_grad():
        block.ls1.gamma.normal_()
        block.ls2.gamma.normal_()
    after = tokens + block.ls1.gamma * block.attn(F.layer_norm(tokens, (DIM,), eps=1e-6))
    expected = after + block.ls2.gamma * block.mlp(F.layer_norm(after, (DIM,), eps=1e-6))
    torch.testing.assert_close(block(tokens), expected)


def test_an_mlp_uses_the_exact_gelu():
    mlp, tokens = MLP(DIM, 6), torch.randn(2, 5, DIM)
    inner = tokens @ mlp.fc1.weight.T + mlp.fc1.bias
    gelu = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    torch.testing.assert_close(mlp(tokens), gelu @ mlp.fc2.weight.T + mlp.fc2.bias)


def test_a_seed_gives_the_same_numbers_and_the_random_state_back():
    state = torch.random.get_rng_state()
    with seeded(7):
        one = torch.randn(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    with seeded(7):
        assert torch.equal(torch.randn(3), one)
