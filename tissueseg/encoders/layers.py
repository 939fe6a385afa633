"""What transformer encoders are made of: attention, feed-forward networks and pre-LN blocks.

Parameters carry the names of published checkpoints. Blocks work on (…, dim), so one block serves token
sequences (B, N, dim) and token grids (B, h, w, dim) alike; only its attention knows which it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6  # of LayerNorm in every published ViT here; torch's own default is 1e-5


class Block(nn.Module):
    """Pre-LN transformer block (Dosovitskiy et al. 2021, eq. 2-3).

    Args:
        dim: width of a token.
        attn: mixes tokens.
        mlp: works on each alone.
        eps: of both LayerNorms.
        layer_scale: one learned factor per feature on both branches (Touvron et al. 2021, eq. 4).
    """

    def __init__(
        self,
        dim: int,
        attn: nn.Module,
        mlp: nn.Module,
        eps: float = EPS,
        layer_scale: bool = False,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn, self.mlp = attn, mlp
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix (…, dim) tokens; their sum stays in float32 under autocast."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, dim) tokens, query, key and value projected at once."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens without positions."""
        return self.proj(
            joined(F.scaled_dot_product_attention(*split(self.qkv(tokens), self.heads)))
        )


def split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, each (B, heads, N, d), of (B, N, 3 · heads · d)."""
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return query, key, value


def joined(mixed: Tensor) -> Tensor:
    """(B, heads, N, d) as (B, N, heads · d)."""
    return mixed.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Work on each token alone."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class SwiGLU(nn.Module):
    """Gated feed-forward network (Shazeer 2020, eq. 6): gate and value come from one projection."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Work on each token alone."""
        gate, value = self.fc1(tokens).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)


class LayerScale(nn.Module):
    """One factor per feature; 1 where no checkpoint gives it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scale (…, dim)."""
        return tokens * self.gamma


class PatchEmbed(nn.Module):
    """One token for every square of `patch_px` RGB pixels."""

    def __init__(self, dim: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_px, patch_px)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, h, w, dim)."""
        return self.proj(image).permute(0, 2, 3, 1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random weights from a seed; the global random states are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed GPUs for good
        yield
