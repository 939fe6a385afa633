"""Slot that lets every token of the bottleneck see all others: self-attention over the whole tile.

It gets no positions of its own: the encoder's features carry them, and without a table it takes
tiles of any size.
"""

from torch import Tensor, nn

from tissueseg.decoders.attention import as_grid, as_tokens, attend, fitting_heads
from tissueseg.numbers import check_whole


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
        check_whole("decoder.context.heads", heads, 1)
        self.heads = fitting_heads(channels, heads)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Mix a grid; (B, C, h, w) to the same, in the same memory format."""
        tokens = as_tokens(x)
        query, key, value = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        return x + as_grid(self.out(attend(query, key, value, self.heads)), x)
