"""Vision transformers for H&E: CellViT-256 (DINO), and UNI and Virchow (timm), as CellViT uses them.

Features are the patch tokens after four blocks, before the last norm; class and register tokens take
part in attention and are dropped. Position tables are resampled to the tile in two ways that do not
agree, so each network keeps the one it was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tissueseg.contracts import DataSpec, EncoderSpec
from tissueseg.encoders.layers import MLP, Attention, Block, PatchEmbed, SwiGLU
from tissueseg.encoders.transformer import MLP_RATIO, Sizes, TransformerEncoder, depth, shape
from tissueseg.encoders.weights import Checkpoint
from tissueseg.errors import ConfigError, WeightsError

_INIT_STD = 0.02  # of class token, registers and positions (Dosovitskiy et al. 2021)


@dataclass(frozen=True)
class ViTSizes(Sizes):
    """What the shapes of a ViT's checkpoint tell."""

    positions: int  # rows of the position table
    registers: int = 0  # tokens beside the class token (Darcet et al. 2024)
    swiglu: bool = False
    layer_scale: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint, heads: int) -> Self:
        """Read them; the number of heads leaves no trace in shapes."""
        dim, _, patch_px, _ = shape(checkpoint, "patch_embed.proj.weight", 4)
        hidden = shape(checkpoint, "blocks.0.mlp.fc2.weight", 2)[1]
        has_registers = "reg_token" in checkpoint.tensors
        return cls(
            dim=dim,
            depth=depth(checkpoint),
            patch_px=patch_px,
            heads=heads,
            hidden=hidden,
            positions=shape(checkpoint, "pos_embed", 3)[1],
            registers=shape(checkpoint, "reg_token", 3)[1] if has_registers else 0,
            swiglu=shape(checkpoint, "blocks.0.mlp.fc1.weight", 2)[0] == 2 * hidden,
            layer_scale="blocks.0.ls1.gamma" in checkpoint.tensors,
        )


class _Placed(NamedTuple):
    """What positions make of a grid size, ready to be added."""

    prefix: Tensor  # (1, 1 + registers, dim), class and register tokens with their positions
    patches: Tensor  # (1, h · w, dim)


class ViTEncoder(TransformerEncoder):
    """A ViT with a class token, and with register tokens, LayerScale and SwiGLU where the file has them.

    Args:
        spec: four equal channels, the width of its tokens.
        data: what the images look like.
        weights: checkpoint; None with `spec.random_init`.
        levels: the four blocks after which features are taken, counted from 1.
        heads: attention heads.
        positions: how the position table is resampled, "dino" or "timm".
        registers: register tokens the file must have, which tells relatives of one size apart.
        chunk: tiles encoded at a time; None: the whole batch.
        compile: let torch compile the blocks.
        seed: of random weights.
        grid: side of a random network's position table, in patches.
        layer_scale: whether a random network has LayerScale; a checkpoint tells by itself.
        swiglu_hidden: width inside a random network's SwiGLU; None: MLPs of ratio 4.

    Raises:
        ConfigError: options that no ViT can have, or weights next to `spec.random_init`.
        WeightsError: no weights, or some that do not fit.
    """

    layout = "vit"

    def __init__(
        self,
        spec: EncoderSpec,
        data: DataSpec,
        weights: str | None,
        levels: Sequence[int],
        heads: int,
        positions: str,
        registers: int = 0,
        chunk: int | None = None,
        compile: bool = False,
        seed: int = 0,
        grid: int = 14,
        layer_scale: bool = False,
        swiglu_hidden: int | None = None,
    ) -> None:
        super().__init__(spec, data, levels, chunk)
        if positions not in RESAMPLERS:
            raise ConfigError(f"encoder.positions={positions}, wanted {' or '.join(RESAMPLERS)}.")
        self._resample = RESAMPLERS[positions]
        self._placed: dict[tuple[int, int], _Placed] = {}
        self.register_load_state_dict_post_hook(_forget_positions)
        checkpoint, dim = self.open(weights), spec.channels[0]
        if checkpoint is not None:
            sizes = ViTSizes.of(checkpoint, heads)
            _check_registers(spec, checkpoint, sizes, registers)
        else:
            sizes = ViTSizes(
                dim=dim,
                depth=self.levels[-1],
                patch_px=spec.patch_px,
                heads=heads,
                hidden=swiglu_hidden or MLP_RATIO * dim,
                positions=grid**2 + 1 + registers,
                registers=registers,
                swiglu=swiglu_hidden is not None,
                layer_scale=layer_scale,
            )
        self.fill(checkpoint, sizes, seed, compile)

    def build(self, sizes: ViTSizes) -> None:
        """Make every parameter, under the published names."""
        dim = sizes.dim
        self.patch_embed = PatchEmbed(dim, sizes.patch_px)
        self.cls_token = _normal(1, 1, dim)
        self.pos_embed = _normal(1, sizes.positions, dim)
        self.reg_token = _normal(1, sizes.registers, dim) if sizes.registers else None
        mlp = SwiGLU if sizes.swiglu else MLP
        self.blocks = nn.ModuleList(
            Block(
                dim,
                Attention(dim, sizes.heads),
                mlp(dim, sizes.hidden),
                layer_scale=sizes.layer_scale,
            )
            for _ in range(sizes.depth)
        )

    def encode(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Patch tokens after the levels' blocks, as views without copies."""
        patches = self.patch_embed(image)
        grid = (patches.shape[1], patches.shape[2])
        placed = self._placed_on(grid)
        prefix = placed.prefix.expand(len(image), -1, -1)
        tokens = torch.cat([prefix, patches.flatten(1, 2) + placed.patches], dim=1)
        return tuple(
            kept[:, prefix.shape[1] :].unflatten(1, grid).permute(0, 3, 1, 2)
            for kept in self.kept(tokens)
        )

    def _placed_on(self, grid: tuple[int, int]) -> _Placed:
        """Positions for a grid (rows, columns), resampled the first time it is seen."""
        if grid not in self._placed:
            self._placed[grid] = self.placed_on(grid)
        return self._placed[grid]

    def placed_on(self, grid: tuple[int, int]) -> _Placed:
        """Positions for a grid (rows, columns), as they are now: they may be learning."""
        prefix = self.cls_token
        if self.reg_token is not None:
            prefix = torch.cat([prefix, self.reg_token], dim=1)
        stored = self.pos_embed
        own = 0 if _side(stored.shape[1] - prefix.shape[1]) is None else prefix.shape[1]
        if own:  # else only patches have positions, timm's `no_embed_class`
            prefix = prefix + stored[:, :own]
        return _Placed(prefix, _resampled(stored[:, own:], grid, self._resample))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast the weights; what was derived from them is made again."""
        self._placed.clear()
        return super()._apply(fn, recurse)


def dino_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample positions as DINO does (Caron et al. 2021, `interpolate_pos_encoding`).

    Bicubic without antialias. The scale is that of a grid 0.1 larger, which was meant to guard against
    rounding but also moves every sample a little; weights were trained with it.

    Args:
        table: (1, dim, n, n).
        grid: rows and columns wanted.
    """
    n = table.shape[-1]
    scale = ((grid[0] + 0.1) / n, (grid[1] + 0.1) / n)
    return F.interpolate(table, scale_factor=scale, mode="bicubic")


def timm_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample positions (1, dim, n, n) as timm does: bicubic, antialiased, to the size itself."""
    return F.interpolate(table, size=grid, mode="bicubic", antialias=True)


RESAMPLERS: Mapping[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "dino": dino_positions,
    "timm": timm_positions,
}


def _resampled(
    stored: Tensor,
    grid: tuple[int, int],
    resample: Callable[[Tensor, tuple[int, int]], Tensor],
) -> Tensor:
    """(1, n², dim) positions for a grid, (1, h · w, dim); as they are where the grid is the stored."""
    side = math.isqrt(stored.shape[1])
    if grid == (side, side):
        return stored
    table = stored.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return resample(table, grid).permute(0, 2, 3, 1).flatten(1, 2).to(stored.dtype)


def _check_registers(
    spec: EncoderSpec, checkpoint: Checkpoint, sizes: ViTSizes, wanted: int
) -> None:
    if sizes.registers != wanted:
        raise WeightsError(
            f"{checkpoint.source} has {sizes.registers} register tokens, but encoder={spec.name} wants "
            f"{wanted}: choose the encoder that fits the file."
        )
    if _side(sizes.positions - 1 - wanted) is None and _side(sizes.positions) is None:
        raise WeightsError(
            f"{checkpoint.source}: pos_embed has {sizes.positions} rows, wanted a square number and "
            f"{1 + wanted} for the other tokens: these weights belong to another architecture."
        )


def _side(count: int) -> int | None:
    """Side of a square grid of `count` tokens; None where there is none."""
    side = math.isqrt(max(count, 0))
    return side if side and side**2 == count else None


def _normal(*size: int) -> nn.Parameter:
    return nn.Parameter(_INIT_STD * torch.randn(size))


def _forget_positions(encoder: ViTEncoder, _: Any) -> None:
    encoder._placed.clear()
