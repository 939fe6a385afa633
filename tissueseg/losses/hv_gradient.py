"""Squared error of the gradients of the horizontal and vertical maps (MSGE).

The maps jump where nuclei touch, and their gradients are what splits nuclei later; the maps' own error
hardly feels a jump that is smeared over a few pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tissueseg.contracts import Batch, Outputs
from tissueseg.errors import ConfigError
from tissueseg.losses.base import HeadLoss, logits_of, truth_of

EPSILON = 1e-8
"""Added to the number of pixels, as published."""


class Slope(NamedTuple):
    """How a map's slope is taken along its own axis."""

    across: Tensor  # (k, k), along columns; the other map has its transpose
    beyond: bool  # True: maps read 0 beyond the tile; False: slopes that need more do not count


def hovernet() -> Slope:
    """x/(x² + y²) over 5 × 5; a ramp of 1 per pixel gives 12."""
    offset = torch.arange(-2.0, 3.0)
    x, y = offset.view(1, -1), offset.view(-1, 1)
    return Slope(x / (x * x + y * y).clamp(min=1), beyond=True)


def difference() -> Slope:
    """The next pixel less this one."""
    return Slope(torch.tensor([[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]), beyond=False)


KERNELS: dict[str, Callable[[], Slope]] = {"hovernet": hovernet, "difference": difference}


class HVGradient(HeadLoss):
    """Σ (slope of prediction − slope of target)² inside nuclei, by the number of slopes + 1e-8.

    Graham et al. 2019 (HoVer-Net), eq. 5: the slope of the horizontal map (channel 0) along columns and
    of the vertical one (channel 1) along rows. Each pixel in focus counts once per map, as in their
    code. That code's port to torch takes the slopes along the other axis, for it mistakes the order
    of `meshgrid`; this follows the paper. `difference` are the study's finite differences.

    Slopes are linear, so that of the error is taken. Where the truth is not known the error is set to
    0, and a slope that reads such a pixel does not count at all.

    Args:
        kernel: hovernet or difference.
        head: the output it reads.

    Raises:
        ConfigError: another kernel or head.
    """

    learns = ("hv",)
    slopes: Tensor
    reads: Tensor

    def __init__(self, kernel: str = "hovernet", head: str = "hv") -> None:
        super().__init__(head)
        if kernel not in KERNELS:
            raise ConfigError(f"HVGradient got kernel={kernel}; choose from {', '.join(KERNELS)}.")
        slope = KERNELS[kernel]()
        slopes = torch.stack([slope.across, slope.across.T]).unsqueeze(1)
        self.beyond = slope.beyond
        self.register_buffer("slopes", slopes, persistent=False)
        self.register_buffer("reads", (slopes != 0).float(), persistent=False)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare (B, 2, h, w) with the head's target (B, 2, H, W); 0 where nothing is in focus."""
        values, known = truth_of(self.head, batch)
        error = (logits_of(self.head, outputs, batch) - values).where(known, 0.0)
        with torch.autocast(error.device.type, enabled=False):  # convolutions would be halved
            slope = self._convolved(error, self.slopes, beyond=0.0)
            hidden = self._convolved((~known).float(), self.reads, beyond=float(not self.beyond))
        focus = known & (hidden < 0.5) & (batch.labels > 0).unsqueeze(1)
        return slope.square().where(focus, 0.0).sum() / (focus.sum() + EPSILON)

    def _convolved(self, maps: Tensor, kernels: Tensor, beyond: float) -> Tensor:
        reach = kernels.shape[-1] // 2
        return F.conv2d(F.pad(maps, (reach,) * 4, value=beyond), kernels, groups=2)
