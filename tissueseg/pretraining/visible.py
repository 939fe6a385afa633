"""VirTues' blocks over the tokens that are seen, and over no others: most are hidden in training.

Tokens of a batch stand one after another (T, D). Attention wants sequences: each kind of block has
tables of indices into them, padded, one table for sequences of like length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tissueseg.encoders.virtues_layers import ROTARY, Block, Turn, dense, normed, rotate

_TOKENS, _LENGTH = 512, 8
"""Tokens of a batch, and lengths of sequences, are filled up to multiples of these: memory that is asked
for in ever other sizes is never given back (10 GB after twenty minutes)."""

_MOST_SEQUENCES = 65535  # of a CUDA grid's second and third dimensions


class Sequences(NamedTuple):
    """Tokens that attend to each other."""

    tables: list[Tensor]  # (G, L) indices of tokens, T where there is none
    back: Tensor  # (T,) where each token stands in all tables, flat, one after the other


class Visible(NamedTuple):
    """The tokens of a batch that are seen, and the sequences in which they attend to each other."""

    tile: Tensor  # (T,) the last ones fill up: they are in no sequence, and nothing reads them
    channel: Tensor  # (T,) 0 for the summary, else 1 + the channel's place in the tile
    cell: Tensor  # (T,)
    place: Tensor  # (B, S, N) index of each token, T where it is hidden
    sequences: dict[str, Sequences]  # by kind of block

    @classmethod
    def of(cls, seen: Tensor) -> Visible:
        """Those that (B, S, N) bool says; the summary, first of S, is always seen.

        Sequences of kind `h` are a channel's tokens in a tile, of kind `v` the tokens of a cell.
        """
        found = seen.nonzero()
        count = _wide(len(found), _TOKENS)
        place = torch.full(seen.shape, count, device=seen.device)
        place[found.unbind(1)] = torch.arange(len(found), device=seen.device)
        tile, channel, cell = F.pad(found, (0, 0, 0, count - len(found))).unbind(1)
        summaries, others = place[:, 0], place[:, 1:].flatten(0, 1)  # (B, N), (B · C, N)
        across = place.transpose(1, 2).reshape(-1, seen.shape[1])  # (B · N, S)
        kinds = {"h": [summaries, *_packed(others, count)], "v": _packed(across, count)}
        sequences = {
            kind: Sequences(tables, _back(tables, count)) for kind, tables in kinds.items()
        }
        return cls(tile, channel, cell, place, sequences)


def turned(block: Block, tokens: Tensor, seen: Visible, turn: Turn, dtype: torch.dtype) -> Tensor:
    """What a block makes of tokens (T, D) that attend to those seen alone.

    Args:
        block: of kind `h` or `v`.
        tokens: as `seen` lists them.
        seen: which they are.
        turn: of a tile's cells.
        dtype: of matmuls; sums stay in that of the tokens.
    """
    attention = block.attention
    projected = dense(normed(tokens, block.norm1, dtype), attention.qkv)
    projected = projected.unflatten(-1, (attention.heads, 3, -1))
    query, key, value = projected.unbind(-2)
    if block.kind in ROTARY:
        own = Turn(turn.cos[seen.cell], turn.sin[seen.cell])
        query, key = rotate(projected[..., :2, :], own).unbind(-2)
    mixed = _mixed(query, key, value, seen.sequences[block.kind])
    tokens = tokens + dense(mixed.flatten(1), attention.out)
    hidden = F.gelu(dense(normed(tokens, block.norm2, dtype), block.up))
    return tokens + dense(hidden, block.down)


def picked(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (T, …) at places of any shape.

    By `index_select`: the gradient of plain indexing takes several times as long on a CPU.
    """
    return tokens.index_select(0, places.flatten()).unflatten(0, places.shape)


def _wide(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _packed(place: Tensor, none: int) -> list[Tensor]:
    """Rows (G, L) of indices without gaps, as wide as the longest needs."""
    longest = int((place < none).sum(1).max())
    return [place.sort(1).values[:, : _wide(longest, _LENGTH)]] if longest else []


def _back(tables: list[Tensor], count: int) -> Tensor:
    flat = torch.cat([table.flatten() for table in tables])
    back = flat.new_zeros(count + 1)
    back[flat] = torch.arange(len(flat), device=flat.device)
    return back[:count]


def _mixed(query: Tensor, key: Tensor, value: Tensor, sequences: Sequences) -> Tensor:
    """Attention of (T, heads, d) within sequences."""
    count, found = len(query), list[Tensor]()
    padded = [F.pad(part, (0, 0, 0, 0, 0, 1)) for part in (query, key, value)]
    for table in (part for whole in sequences.tables for part in whole.split(_MOST_SEQUENCES)):
        there = table < count
        parts = [picked(part, table).transpose(1, 2) for part in padded]  # (G, heads, L, d)
        there = there | ~there.any(1, keepdim=True)  # a row of none must not attend to nothing
        mask = None if bool(there.all()) else there[:, None, None]
        mixed = F.scaled_dot_product_attention(*parts, attn_mask=mask)
        found.append(mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(found).index_select(0, sequences.back)
