"""Slot that lets every pixel of the last stage see the predicted foreground of the whole tile.

After Mask2Former (Cheng et al. 2022): attention whose keys are limited to a predicted mask. Pixel to
pixel a tile of 120 px has 14 400² scores a head, so keys are *cells*: the mean of the foreground pixels
in each square of a grid of at most 16 × 16, weighed by how many they are. That is attention to those
pixels themselves wherever they are alike within a cell, and up to 16 px a side always. Shapes never
depend on the mask, so it compiles.

Measured beside it (forward and backward, one thread, float32, 120 px, B 16, C 64, 4 heads): cells
1.64 s and 350 MiB, 1/145 of dense scores; 8 px windows, with 64 keys a query, 1.46 s and 574 MiB; 16 px
windows 2.45 s and 650 MiB; 256 single foreground pixels of the tile, packed, 1.63 s and 294 MiB, 1024 of
them 5.28 s. Windows see no further than their edge, and 256 pixels are few of a tile's thousands: cells
see all of them at the same cost.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tissueseg.decoders.attention import as_grid, as_tokens, attend, fitting_heads
from tissueseg.decoders.guides import resized
from tissueseg.numbers import check_whole


class MaskedAttention(nn.Module):
    """x + W·attention(norm(x) → foreground of norm(x)), the same in training and inference.

    A tile without predicted foreground attends everywhere. No gradient passes through the mask: the
    head that predicts it learns from its own loss. Queries, keys and values have no bias, as in
    `GlobalContext`.

    Args:
        channels: C.
        heads: at most; fewer where one would have less than 8 channels or they would not divide C.
            4: at C = 64, 8 heads take twice the time.
        cells: along the longer side of a tile, at most; a cell is a whole number of pixels wide.

    Raises:
        ConfigError: heads or cells that are no whole number of at least 1.
    """

    def __init__(self, channels: int, heads: int = 4, cells: int = 16) -> None:
        super().__init__()
        check_whole("decoder.refine.heads", heads, 1)
        check_whole("decoder.refine.cells", cells, 1)
        self.heads, self.cells = fitting_heads(channels, heads), cells
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask_logits: Tensor) -> Tensor:
        """Mix a tile's features.

        Args:
            x: (B, C, H, W) features of the last stage.
            mask_logits: (B, 1, h, w) foreground of the same pass, coarse or not.

        Returns:
            (B, C, H, W), in x's memory format.
        """
        tokens = self.norm(as_tokens(x))
        means, counts = pooled(as_grid(tokens, x), admissible(mask_logits, x), self.cells)
        key, value = self.key_value(means.to(tokens.dtype)).chunk(2, dim=-1)
        query = self.query(tokens)
        # exp(score + log n) is n times exp(score): a cell counts as its n pixels would; log 0 is −inf.
        bias = counts.log().to(query.dtype)[:, None, None]
        return x + as_grid(self.out(attend(query, key, value, self.heads, bias)), x)


@torch.no_grad()
def admissible(mask_logits: Tensor, like: Tensor) -> Tensor:
    """Which pixels are keys: predicted foreground, or all of a tile that has none.

    Returns:
        (B, 1, H, W) float32, 0 or 1.
    """
    seen = resized(mask_logits, like) >= 0  # where the probability is at least a half
    empty = ~seen.any(dim=(2, 3), keepdim=True)
    return (seen | empty).float()


def pooled(grid: Tensor, mask: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Means over the pixels of a mask, cell by cell; the last cells may be cut off by the tile's edge.

    Args:
        grid: (B, C, H, W).
        mask: (B, 1, H, W) float32, 0 or 1.
        cells: along the longer side, at most.

    Returns:
        (B, M, C) means, 0 in cells without a pixel, and (B, M) how many pixels each is of; float32.
    """
    cell = -(-max(grid.shape[-2:]) // cells)

    def sums(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, cell, ceil_mode=True, divisor_override=1)

    counts = sums(mask)
    means = sums(grid * mask) / counts.clamp(min=1)
    return as_tokens(means), counts.flatten(1)
