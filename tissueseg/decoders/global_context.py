"""Slot that lets every token of the bottleneck see all others: self-attention over the whole tile.

It gets no positions of its own: the encoder's features carry them, and without a table it takes
tiles of any size.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from tissueseg.errors import ConfigError

MIN_HEAD_CHANNELS = 8
"""Narrower heads can tell few things apart, and fused kernels read eight numbers at a time."""


class GlobalContext(nn.Module):
    """x + W·attention(norm(x)) over the h · w tokens of a grid.

    Queries, keys and values have no bias: the softmax takes a key's away again, so it would never be
    trained, and the norm before and the projection behind bring the other two.

    Args:
        channels: C.
        heads: at most; fewer where one would have less than 8 channels or they would not divide C.

    Raises:
        ConfigError: heads that are no whole number of at least 1.
    """

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        check_count("decoder.context.heads", heads)
        self.heads = fitting_heads(channels, heads)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Mix a grid; (B, C, h, w) to the same, in the same memory format."""
        tokens = as_tokens(x)
        query, key, value = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        return x + as_grid(self.out(attend(query, key, value, self.heads)), x)


def check_count(key: str, value: object) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
        ConfigError: naming the key.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key}={value}, wanted a whole number of at least 1.")


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
