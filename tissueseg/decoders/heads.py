"""The last layers of a decoder: from its finest features to the logits of one named output."""

from itertools import pairwise

from torch import nn

from tissueseg.decoders.blocks import ConvBlock


class Head(nn.Sequential):
    """`depth` ConvBlocks, then Conv 1×1; (B, in, H, W) features to (B, out, H, W) logits.

    With depth 2 and hidden 64 this is `decoder0_header` of CellViT (Hörst et al. 2024), keys included.

    Args:
        in_channels: width of the features it reads.
        out_channels: logits per pixel.
        depth: number of ConvBlocks; 0 leaves a linear map per pixel.
        hidden: width of the ConvBlocks.
        dropout: after each ConvBlock.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 2,
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        widths = [in_channels] + [hidden] * depth
        blocks = [ConvBlock(a, b, dropout) for a, b in pairwise(widths)]
        super().__init__(*blocks, nn.Conv2d(widths[-1], out_channels, 1))
