"""SAM's image encoder (Kirillov et al. 2023), which CellViT-SAM-B, -L and -H fine-tuned for H&E.

A ViT after Li et al. 2022 (ViTDet): most blocks attend inside windows of 14 × 14 tokens, four over the
whole grid, and all add decomposed relative positions to their scores. No class token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tissueseg.contracts import DataSpec, EncoderSpec
from tissueseg.encoders.layers import MLP, Attention, Block, PatchEmbed, joined, split
from tissueseg.encoders.transformer import MLP_RATIO, Sizes, TransformerEncoder, depth, shape
from tissueseg.encoders.weights import Checkpoint
from tissueseg.errors import SpecMismatchError, WeightsError

_INIT_STD = 0.02


@dataclass(frozen=True)
class SAMSizes(Sizes):
    """What the shapes of a SAM checkpoint tell."""

    grid: int  # side of the position table, in patches
    windows: tuple[int | None, ...]  # side of each block's windows; None: the whole grid

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """Read them: a block's relative positions say its window and the width of its heads."""
        dim, _, patch_px, _ = shape(checkpoint, "patch_embed.proj.weight", 4)
        grid, blocks = shape(checkpoint, "pos_embed", 4)[1], depth(checkpoint)
        tables = [shape(checkpoint, f"blocks.{i}.attn.rel_pos_h", 2) for i in range(blocks)]
        sides = [(length + 1) // 2 for length, _ in tables]
        head_dim = tables[0][1]
        if not head_dim or dim % head_dim:
            raise WeightsError(
                f"{checkpoint.source}: relative positions are {head_dim} wide, wanted a divisor of "
                f"{dim}: these weights belong to another architecture."
            )
        return cls(
            dim=dim,
            depth=blocks,
            patch_px=patch_px,
            heads=dim // head_dim,
            hidden=shape(checkpoint, "blocks.0.mlp.lin1.weight", 2)[0],
            grid=grid,
            windows=tuple(None if side == grid else side for side in sides),
        )


class SAMEncoder(TransformerEncoder):
    """SAM's image encoder without its neck.

    Args:
        spec: four equal channels, the width of its tokens.
        data: what the images look like.
        weights: checkpoint; None with `spec.random_init`.
        levels: the four blocks after which features are taken, counted from 1.
        chunk: tiles encoded at a time; None: the whole batch.
        compile: let torch compile the blocks.
        seed: of random weights.
        heads: attention heads of a random network; a checkpoint tells these four by itself.
        window: side of its windows, in patches.
        global_blocks: its blocks without windows, counted from 1; None: `levels`, as published.
        grid: side of its position table, in patches.

    Raises:
        ConfigError: options that it cannot have, or weights next to `spec.random_init`.
        SpecMismatchError: tiles larger than the position table.
        WeightsError: no weights, or some that do not fit.
    """

    layout = "sam"

    def __init__(
        self,
        spec: EncoderSpec,
        data: DataSpec,
        weights: str | None,
        levels: Sequence[int],
        chunk: int | None = None,
        compile: bool = False,
        seed: int = 0,
        heads: int = 12,
        window: int = 14,
        global_blocks: Sequence[int] | None = None,
        grid: int = 64,
    ) -> None:
        super().__init__(spec, data, levels, chunk)
        checkpoint, dim = self.open(weights), spec.channels[0]
        if checkpoint is not None:
            sizes = SAMSizes.of(checkpoint)
        else:
            whole = self.levels if global_blocks is None else tuple(global_blocks)
            blocks = range(1, self.levels[-1] + 1)
            sizes = SAMSizes(
                dim=dim,
                depth=len(blocks),
                patch_px=spec.patch_px,
                heads=heads,
                hidden=MLP_RATIO * dim,
                grid=grid,
                windows=tuple(None if block in whole else window for block in blocks),
            )
        tokens = self.spec.tokens(data.tile_px + 2 * spec.halo_px, data.mpp)
        self._check_room((tokens, tokens), sizes.grid)
        self.fill(checkpoint, sizes, seed, compile)

    def build(self, sizes: SAMSizes) -> None:
        """Make every parameter."""
        dim, grid = sizes.dim, sizes.grid
        self.patch_embed = PatchEmbed(dim, sizes.patch_px)
        self.pos_embed = nn.Parameter(_INIT_STD * torch.randn(1, grid, grid, dim))
        self.blocks = nn.ModuleList(
            Block(dim, GridAttention(dim, sizes.heads, grid, window), MLP(dim, sizes.hidden))
            for window in sizes.windows
        )

    def named(self) -> Mapping[str, str]:
        """SAM calls the two layers of an MLP lin1 and lin2."""
        ours = (name for name, _ in self.named_parameters() if ".mlp.fc" in name)
        return {name: name.replace(".mlp.fc", ".mlp.lin") for name in ours}

    def encode(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Token grids after the levels' blocks, as views without copies.

        Raises:
            SpecMismatchError: more patches than the position table has.
        """
        patches = self.patch_embed(image)
        height, width = patches.shape[1:3]
        self._check_room((height, width), self.pos_embed.shape[1])
        # Sums keep the layout of what they add to: as the convolution left it, every norm would copy.
        tokens = (patches + self.pos_embed[:, :height, :width]).contiguous()
        return tuple(grid.permute(0, 3, 1, 2) for grid in self.kept(tokens))

    def _check_room(self, tokens: tuple[int, int], grid: int) -> None:
        """SAM was trained on one size; smaller tiles take the top left of its positions."""
        if max(tokens) > grid:
            spec = self.spec
            room = int(grid * spec.token_px(self.data.mpp)) // self.stride_px * self.stride_px
            raise SpecMismatchError(
                f"encoder={spec.name} knows the positions of {grid} × {grid} patches, got "
                f"{tokens[0]} × {tokens[1]}: choose data.tile_px + 2 · encoder.halo_px of at most {room}."
            )


class GridAttention(Attention):
    """Attention over (B, h, w, dim), whole or in windows, with decomposed relative positions.

    The score of query (i, j) and key (k, l) is q·k/√d + q·R_h[i − k] + q·R_w[j − l] (Li et al. 2022,
    eq. 2).

    Args:
        dim: width of a token.
        heads: attention heads.
        grid: side of the grid that relative positions are stored for, where there are no windows.
        window: side of the windows; None: the whole grid.
    """

    def __init__(self, dim: int, heads: int, grid: int, window: int | None = None) -> None:
        super().__init__(dim, heads)
        self.window = window
        offsets = 2 * (window or grid) - 1
        self.rel_pos_h = nn.Parameter(_INIT_STD * torch.randn(offsets, dim // heads))
        self.rel_pos_w = nn.Parameter(_INIT_STD * torch.randn(offsets, dim // heads))

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix the tokens of each window, or of the grid."""
        height, width = tokens.shape[1:3]
        qkv, bias = self.qkv(tokens), self.qkv.bias
        if self.window is None:
            return self.proj(self._mixed(qkv))
        # Windows that stick out are filled with zeros *before* the projection, and those take part in
        # attention: what a zero projects to is the bias, so nothing but the tokens need be projected.
        windows = windowed(qkv, self.window, bias)
        return self.proj(unwindowed(self._mixed(windows), height, width))

    def _mixed(self, qkv: Tensor) -> Tensor:
        """(B, h, w, 3 · dim) to (B, h, w, dim)."""
        size = (qkv.shape[1], qkv.shape[2])
        query, key, value = split(qkv.flatten(1, 2), self.heads)
        scores = self._relative(query, size).to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return joined(mixed).unflatten(1, size)

    def _relative(self, query: Tensor, size: tuple[int, int]) -> Tensor:
        """What positions add to the scores, (B, heads, N, N), for a query that is not scaled."""
        height, width = size
        on_grid = query.unflatten(2, size)
        rows = torch.einsum("bnhwd,hkd->bnhwk", on_grid, offsets_between(self.rel_pos_h, height))
        columns = torch.einsum("bnhwd,wkd->bnhwk", on_grid, offsets_between(self.rel_pos_w, width))
        return (rows.unsqueeze(-1) + columns.unsqueeze(-2)).flatten(4).flatten(2, 3)


def offsets_between(table: Tensor, side: int) -> Tensor:
    """Relative positions of every query (first axis) to every key on a line of `side` tokens.

    Args:
        table: (2 · stored − 1, d), from the key farthest behind to the one farthest ahead; resampled
            linearly where the line is not of the stored length.
        side: tokens.

    Returns:
        (side, side, d).
    """
    if len(table) != 2 * side - 1:
        line = table.float().T.unsqueeze(0)
        table = F.interpolate(line, 2 * side - 1, mode="linear")[0].T.to(table.dtype)
    at = torch.arange(side, device=table.device)
    return table[at[:, None] - at[None, :] + side - 1]


def windowed(grid: Tensor, window: int, fill: Tensor) -> Tensor:
    """Cut (B, h, w, c) into (B · n, window, window, c); below and to the right `fill` (c,) is added."""
    batch, height, width, channels = grid.shape
    rows, columns = -(-height // window), -(-width // window)
    if (height, width) != (rows * window, columns * window):
        whole = fill.to(grid.dtype).expand(batch, rows * window, columns * window, channels).clone()
        whole[:, :height, :width] = grid
        grid = whole
    cut = grid.view(batch, rows, window, columns, window, channels).transpose(2, 3)
    return cut.reshape(-1, window, window, channels)


def unwindowed(windows: Tensor, height: int, width: int) -> Tensor:
    """Put windows back together and take what was added off: (B, height, width, c)."""
    window, channels = windows.shape[2:]
    rows, columns = -(-height // window), -(-width // window)
    cut = windows.view(-1, rows, columns, window, window, channels).transpose(2, 3)
    return cut.reshape(-1, rows * window, columns * window, channels)[:, :height, :width]
