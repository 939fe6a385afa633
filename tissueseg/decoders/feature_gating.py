"""Slot that lets a skip path through where cells are predicted.

The study multiplied its last skip by the predicted foreground. It has no parameters: what it does is
learnt by the head that it listens to.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from tissueseg.errors import ConfigError


class FeatureGating(nn.Module):
    """`skip` · g with g = floor + (1 − floor) · σ(foreground).

    Gradient flows into the logits as well: the coarse head has a loss of its own, and learns besides
    where letting the skip through helps.

    Args:
        floor: what is left of the skip where no cell is predicted, from 0, as in the study, to below 1.

    Raises:
        ConfigError: another floor.
    """

    def __init__(self, floor: float = 0.0) -> None:
        super().__init__()
        if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor < 1:
            raise ConfigError(
                f"decoder.gate.floor={floor}, wanted a number from 0 to below 1; at 1 nothing "
                "would be gated: leave the slot out instead."
            )
        self.floor = float(floor)

    def forward(self, skip: Tensor, foreground_logits: Tensor) -> Tensor:
        """Gate a skip.

        Args:
            skip: (B, C, H, W) features.
            foreground_logits: (B, 1, h, w) of the same pass.

        Returns:
            (B, C, H, W), in the skip's dtype and memory format.
        """
        seen = resized(foreground_logits, skip).sigmoid()
        return skip * (self.floor + (1 - self.floor) * seen).to(skip.dtype)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"floor={self.floor:g}"


def resized(logits: Tensor, like: Tensor) -> Tensor:
    """Logits on the pixels of other features, bilinear: (B, 1, h, w) to (B, 1, H, W)."""
    size = like.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, (size[0], size[1]), mode="bilinear", align_corners=False)
