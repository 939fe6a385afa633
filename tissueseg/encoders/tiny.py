"""A small ViT with seeded random weights: it makes everything run anywhere, and has learned nothing.

Its features are random projections of patches, mixed by random attention. Decoders on top of it learn
mostly from the image skip; its name says `random_init` wherever a result is shown.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tissueseg.contracts import LEVELS, EncoderSpec
from tissueseg.encoders.base import Encoder
from tissueseg.errors import ConfigError


class TinyEncoder(Encoder):
    """Four pre-LN transformer blocks over patches of `spec.stride_px`, one level after each.

    Args:
        spec: all four channels equal, divisible by `heads`.
        image_channels: channels of the tile image.
        heads: attention heads.
        seed: of the weights; the global random state is left as it was.

    Raises:
        ConfigError: channels that differ or that the heads do not divide.
    """

    def __init__(
        self, spec: EncoderSpec, image_channels: int, heads: int = 4, seed: int = 0
    ) -> None:
        super().__init__(spec)
        dim, patch = spec.channels[0], spec.stride_px
        if set(spec.channels) != {dim} or dim % heads:
            raise ConfigError(
                f"encoder={spec.name} got spec.channels={list(spec.channels)} with heads={heads}: give "
                "four equal channels, a multiple of the heads."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.patch_embed = nn.Conv2d(image_channels, dim, patch, patch)
            self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(LEVELS))
        self.freeze()

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Embed patches, then keep the tokens after every block."""
        grid = self.patch_embed(image)
        height, width = grid.shape[-2:]
        tokens = grid.flatten(2).transpose(1, 2)
        levels = []
        for block in self.blocks:
            tokens = block(tokens)
            levels.append(tokens.transpose(1, 2).unflatten(2, (height, width)).contiguous())
        return tuple(levels)


class Block(nn.Module):
    """Pre-LN transformer block (Dosovitskiy et al. 2021, eq. 2-3) without positions."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix (B, N, dim) tokens."""
        tokens = tokens + self._attend(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def _attend(self, tokens: Tensor) -> Tensor:
        split = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, d)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))
