"""The upsampling branch of CellViT's decoder: from the deepest tokens to features at tile size.

CellViT gives every output a branch of its own, where most of the computing goes; `SkipDecoder` builds
one for all heads or one each. Submodules carry the published names. It climbs a stage at a time, so that
branches can guide each other on the way.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tissueseg.decoders.blocks import ConvBlock


class Widths(NamedTuple):
    """Hidden widths of the decoder, each a multiple of 8."""

    bottleneck: int  # b, at 1/8 of the tile
    skip1: int  # s₁, first step of the skip paths of levels 1 and 2
    skip2: int  # s₂, second step of the skip path of level 1
    quarter: int  # at 1/4 of the tile
    half: int  # at 1/2
    full: int  # at the tile's size
    image: int  # first step of the image's skip path

    @classmethod
    def scaled(cls, embedding: int, width: float) -> "Widths":
        """The published widths for an encoder this wide, times `width`."""
        b, s1, s2 = (312, 256, 128) if embedding < 512 else (512, 512, 256)
        published = (b, s1, s2, 256, 128, 64, 32)
        return cls(*(max(8, round(c * width / 8) * 8) for c in published))

    def at(self, stride: int) -> int:
        """Channels of the features that climb, where there is one on every `stride` tile pixels."""
        return {8: self.bottleneck, 4: self.quarter, 2: self.half, 1: self.full}[stride]


def join(skip: Tensor | None, below: Tensor) -> Tensor:
    """Channels of the skip path, if there is one, before those coming up from below."""
    return below if skip is None else torch.cat((skip, below), dim=1)


class Branch(nn.Module):
    """Bottleneck and three stages, each cat(skip, below) → ConvBlocks → ConvTranspose.

    Args:
        embedding: width of the encoder's deepest level.
        widths: hidden widths.
        stride_px: 16 as published. At 8 the tokens already lie at 1/8 of the tile, where the first
            stage starts, so the bottleneck only changes their width (Conv 1×1).
        skips: whether the stages are given skips; without, they are built half as wide at entry.
        dropout: in every ConvBlock.
    """

    def __init__(
        self,
        embedding: int,
        widths: Widths,
        stride_px: int,
        skips: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        b, quarter, half, full = widths.bottleneck, widths.quarter, widths.half, widths.full
        self.bottleneck_upsampler = (
            nn.ConvTranspose2d(embedding, b, 2, stride=2)
            if stride_px == 16
            else nn.Conv2d(embedding, b, 1)
        )
        entry = 2 if skips else 1
        self.decoder3_upsampler = _stage(entry, b, quarter, 3, dropout)
        self.decoder2_upsampler = _stage(entry, quarter, half, 2, dropout)
        self.decoder1_upsampler = _stage(entry, half, full, 2, dropout)
        self.context: nn.Module | None = None
        self.refine: nn.Module | None = None
        self._widths = widths

    def fill(
        self,
        context: Callable[[int], nn.Module] | None,
        refine: Callable[[int], nn.Module] | None,
    ) -> None:
        """Build what fills its slots.

        Args:
            context: channels -> what the bottleneck's output passes through; None: nothing.
            refine: channels -> what the last stage's output passes through, guided; None: nothing.
        """
        self.context = context(self._widths.bottleneck) if context else None
        self.refine = refine(self._widths.full) if refine else None

    def enter(self, deepest: Tensor) -> Tensor:
        """Tokens of the encoder's last level (B, D, h, w) to (B, bottleneck, H/8, W/8)."""
        below = self.bottleneck_upsampler(deepest)
        return below if self.context is None else self.context(below)

    def climb(self, stride: int, skip: Tensor | None, below: Tensor) -> Tensor:
        """One stage, from `stride` tile pixels per feature to half of it.

        Args:
            stride: 8, 4 or 2.
            skip: what joins there; None where that path was not built.
            below: (B, c, H/stride, W/stride).
        """
        stages = {
            8: self.decoder3_upsampler,
            4: self.decoder2_upsampler,
            2: self.decoder1_upsampler,
        }
        return stages[stride](join(skip, below))

    def end(self, below: Tensor, guide: Tensor | None) -> Tensor:
        """The last stage's output (B, full, H, W), refined under a guide's logits (B, 1, h, w)."""
        return below if self.refine is None else self.refine(below, guide)


def _stage(entry: int, width: int, out: int, blocks: int, dropout: float) -> nn.Sequential:
    """ConvBlocks at one size, then the step up to the next."""
    layers = [ConvBlock(entry * width if i == 0 else width, width, dropout) for i in range(blocks)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, out, 2, stride=2))
