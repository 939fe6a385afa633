"""Squared error of the horizontal and vertical maps."""

from torch import Tensor

from tissueseg.contracts import Batch, Outputs
from tissueseg.errors import ConfigError
from tissueseg.losses.base import HeadLoss, logits_of, mean_where, truth_of


class HVMSE(HeadLoss):
    """Mean of (prediction − target)² over both maps.

    HoVer-Net's, CellViT's and the study's count the background too, where the target is 0.

    Args:
        focus: count pixels inside nuclei alone.
        head: the output it reads.

    Raises:
        ConfigError: another head, or a focus that is neither true nor false.
    """

    learns = ("hv",)

    def __init__(self, focus: bool = False, head: str = "hv") -> None:
        super().__init__(head)
        if not isinstance(focus, bool):
            raise ConfigError(f"HVMSE got focus={focus}, wanted true or false.")
        self.focus = focus

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare (B, 2, h, w) with the head's target (B, 2, H, W); 0 where nothing is counted."""
        values, counted = truth_of(self.head, batch)
        if self.focus:
            counted = counted & (batch.labels > 0).unsqueeze(1)
        error = (logits_of(self.head, outputs, batch) - values).where(counted, 0.0)
        return mean_where(error.square(), counted)
