"""The two convolution blocks every decoder is made of, laid out as in CellViT.

Each keeps its layers in one `block`, so that the keys of published decoder weights
(`decoder1.0.block.1.weight`) are ours too.
"""

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Conv 3×3, batch norm, ReLU and dropout; (B, in, h, w) to (B, out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.block = nn.Sequential(
            # BN takes this bias away again in training; published weights have it and eval uses it.
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve at the same size."""
        return self.block(x)


class DeconvBlock(nn.Module):
    """Learned upsampling, then a ConvBlock's layers; (B, in, h, w) to (B, out, 2h, 2w)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Double the size."""
        return self.block(x)
