"""Slot that lets a skip path through where cells are predicted.

The study multiplied its last skip by the predicted foreground. It has no parameters: what it does is
learnt by the head that it listens to.
"""

from torch import Tensor, nn

from tissueseg.decoders.guides import resized
from tissueseg.numbers import check_number


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
        self.floor = check_number(
            "decoder.gate.floor", floor, 0, below=1, note="at 1 nothing would be gated"
        )

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
