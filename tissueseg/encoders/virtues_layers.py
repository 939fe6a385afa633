"""VirTues' transformer blocks, dense over (tile, channel, cell): attention along either axis.

Every block works on one tensor (B, S, N, D) of S channels and N grid cells. The rows of the fused
projection are ordered (head, query/key/value, feature), so that attention along channels and along cells
are both mere views of its output: nothing is gathered, padded or transposed in memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = "hvf"
"""Attention inside a channel over cells; over the channels of a cell; over both."""

ROTARY = "hf"
"""Kinds that know positions."""

_SHORT = 64  # keys; up to there batched matmuls beat the fused attention on a CPU (2 × at 17)
_MOST_HEADS = 65535  # of a CUDA grid's second and third dimensions


class Turn(NamedTuple):
    """Cosines and sines of every cell's rotation, (N, 1, 1, head width / 2) each."""

    cos: Tensor
    sin: Tensor


def frequencies(width: int) -> Tensor:
    """10000^(−2k/width) for k < width/2, float64 (Su et al. 2021, RoFormer, section 3.2.2)."""
    return 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


def turns(grid: tuple[int, int], head_width: int, device: torch.device, dtype: torch.dtype) -> Turn:
    """Rotations of a grid's cells: half of them by its row, half by its column, from 0."""
    speed = frequencies(head_width // 2)
    rows, columns = (torch.arange(n, dtype=torch.float64)[:, None] * speed for n in grid)
    shape = (*grid, len(speed))
    angle = torch.cat((rows[:, None].expand(shape), columns[None].expand(shape)), -1)
    angle = angle.reshape(math.prod(grid), 1, 1, -1)
    return Turn(angle.cos().to(device, dtype), angle.sin().to(device, dtype))


def pairing(head_width: int) -> list[int]:
    """Where our head features lie in a published head.

    Published heads are (row, column) halves, each rotated as [x₁, x₂]. Ours hold all x₁, then all x₂, so
    that rotating takes two long strides instead of four short ones; dot products do not mind.
    """
    quarter = head_width // 4
    return [
        half + first + k
        for first in (0, quarter)
        for half in (0, 2 * quarter)
        for k in range(quarter)
    ]


def rotate(features: Tensor, turn: Turn) -> Tensor:
    """Rotate (B, S, N, heads, parts, d), paired as `pairing` says, by the cells' positions."""
    half = features.shape[-1] // 2
    first, second = features[..., :half], features[..., half:]
    turned = features * torch.cat((turn.cos, turn.cos), -1)
    turned[..., :half].addcmul_(second, turn.sin, value=-1)
    turned[..., half:].addcmul_(first, turn.sin)
    return turned


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """Attention of (B, H, Q, d) on (B, H, K, d), the fastest way for the device and length.

    Args:
        query: any strides, features contiguous; key and value alike.
        key: K keys.
        value: of the keys.
        seen: (B, 1, 1, K) bool, False for keys that must not count; None: all count.
    """
    if query.device.type == "cpu" and key.shape[2] <= _SHORT and query.dtype == torch.float32:
        return _attend_short(query, key, value, seen)
    if query.shape[1] <= _MOST_HEADS:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    parts = (part.split(_MOST_HEADS, 1) for part in (query, key, value))
    return torch.cat([attend(q, k, v, seen) for q, k, v in zip(*parts, strict=True)], 1)


def _attend_short(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    batch, heads, queries, width = query.shape
    mixed = query.new_empty(batch, queries, heads, width)
    for tile in range(batch):  # one tile's heads have one stride, so that nothing is copied
        scores = torch.bmm(query[tile], key[tile].transpose(1, 2)).mul_(width**-0.5)
        if seen is not None:
            scores.masked_fill_(~seen[tile], -torch.inf)
        mixed[tile] = torch.bmm(scores.softmax(-1), value[tile]).transpose(0, 1)
    return mixed.transpose(1, 2)


def dense(tokens: Tensor, layer: nn.Linear, rows: Tensor | None = None) -> Tensor:
    """A linear layer, or some of its rows, in the dtype of the tokens."""
    weight, bias = layer.weight, layer.bias
    if rows is not None:
        weight, bias = weight[rows], bias[rows]
    return F.linear(tokens, weight.to(tokens.dtype), bias.to(tokens.dtype))


def normed(tokens: Tensor, norm: nn.LayerNorm, dtype: torch.dtype) -> Tensor:
    """LayerNorm in the dtype of the tokens, then in that of the matmul that follows."""
    weight, bias = norm.weight.to(tokens.dtype), norm.bias.to(tokens.dtype)
    return F.layer_norm(tokens, norm.normalized_shape, weight, bias, norm.eps).to(dtype)


class Attention(nn.Module):
    """Multi-head self-attention along one axis, or both, of (B, S, N, D)."""

    def __init__(self, kind: str, dim: int, heads: int) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        self.qkv = nn.Linear(dim, 3 * dim)  # rows (head, query/key/value, feature)
        self.out = nn.Linear(dim, dim)
        rows = torch.arange(3 * dim).view(heads, 3, -1)
        self.register_buffer("query_rows", rows[:, :1].flatten(), persistent=False)
        self.register_buffer("other_rows", rows[:, 1:].flatten(), persistent=False)

    def forward(
        self, tokens: Tensor, turn: Turn, seen: Tensor | None, summary_only: bool
    ) -> Tensor:
        """Mix tokens; with `summary_only` the answer is that of channel 0 alone, (B, 1, N, D)."""
        if summary_only and self.kind == "h":
            tokens = tokens[:, :1]  # nothing else reaches it
        if summary_only and self.kind != "h":
            query = self._project(tokens[:, :1], self.get_buffer("query_rows"))[..., 0, :]
            key, value = self._project(tokens, self.get_buffer("other_rows")).unbind(-2)
            if self.kind in ROTARY:
                query, key = (rotate(x[..., None, :], turn)[..., 0, :] for x in (query, key))
        else:
            whole = self._project(tokens, None)
            query, key, value = whole.unbind(-2)
            if self.kind in ROTARY:
                query, key = rotate(whole[..., :2, :], turn).unbind(-2)
        keys = None if self.kind == "h" else self._keys(seen, tokens.shape[2])
        mixed = attend(*map(self._sequences, (query, key, value)), seen=keys)
        return dense(mixed.transpose(1, 2).reshape(*query.shape[:3], -1), self.out)

    def _project(self, tokens: Tensor, rows: Tensor | None) -> Tensor:
        """(B, S, N, heads, parts, d)."""
        width = tokens.shape[-1] // self.heads
        return dense(tokens, self.qkv, rows).unflatten(-1, (self.heads, -1, width))

    def _sequences(self, part: Tensor) -> Tensor:
        """(B, S, N, heads, d) as (batch, heads, sequence, d), without a copy."""
        first = {"h": (0, 1), "v": (2, 3), "f": (1, 2)}[self.kind]
        return part.flatten(*first).transpose(1, 2)

    def _keys(self, seen: Tensor | None, cells: int) -> Tensor | None:
        """(B, S) as a mask of keys."""
        if seen is None:
            return None
        keys = seen.repeat_interleave(cells, 1) if self.kind == "f" else seen
        return keys[:, None, None]


class Block(nn.Module):
    """Pre-LN transformer block: x += attention(LN(x)); x += FFN(LN(x)), with the exact GELU."""

    def __init__(self, kind: str, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(kind, dim, heads)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(
        self,
        tokens: Tensor,
        turn: Turn,
        seen: Tensor | None,
        summary_only: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        """Update tokens in place, and return them; where something learns, leave them as they are.

        Args:
            tokens: (B, S, N, D), the summary first.
            turn: of the N cells.
            seen: (B, S) bool, False for channels that nothing may attend to; None: all count.
            summary_only: return, and compute, channel 0 alone: (B, 1, N, D).
            dtype: of matmuls; sums stay in that of the tokens.
        """
        mixed = self.attention(normed(tokens, self.norm1, dtype), turn, seen, summary_only)
        kept = tokens[:, :1] if summary_only else tokens
        if mixed.requires_grad:  # backward wants what the sums are made of
            kept = kept + mixed
            return kept + dense(F.gelu(dense(normed(kept, self.norm2, dtype), self.up)), self.down)
        kept.add_(mixed)
        hidden = torch.ops.aten.gelu_(dense(normed(kept, self.norm2, dtype), self.up))
        return kept.add_(dense(hidden, self.down))


def summary_only(pattern: str) -> list[bool]:
    """For each block, whether everything after it sees channel 0 alone."""
    return [set(pattern[n + 1 :]) <= {"h"} for n in range(len(pattern))]
