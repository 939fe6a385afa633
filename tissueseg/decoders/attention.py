"""Attention among the pixels of a grid, for the slots that let features far apart see each other."""

from torch import Tensor
from torch.nn import functional as F

MIN_HEAD_CHANNELS = 8
"""Narrower heads can tell few things apart, and fused kernels read eight numbers at a time."""


def fitting_heads(channels: int, at_most: int) -> int:
    """As many heads as divide the channels into at least `MIN_HEAD_CHANNELS` each."""
    most = max(1, min(at_most, channels // MIN_HEAD_CHANNELS))
    return next(n for n in range(most, 0, -1) if channels % n == 0)


def as_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) as (B, h·w, C): a view where x is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_grid(tokens: Tensor, like: Tensor) -> Tensor:
    """(B, h·w, C) as the (B, C, h, w) of other features: a view, channels_last."""
    return tokens.unflatten(1, like.shape[-2:]).permute(0, 3, 1, 2)


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention of several heads.

    Args:
        query: (B, N, C).
        key: (B, M, C).
        value: (B, M, C).
        heads: a divisor of C.
        bias: added to the scores, to be broadcast to (B, heads, N, M); −inf takes a key away.

    Returns:
        (B, N, C).
    """
    query, key, value = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return mixed.transpose(1, 2).flatten(2)
