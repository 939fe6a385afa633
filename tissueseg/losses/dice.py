"""Dice loss, on the class head or on one of one logit."""

from torch import Tensor

from tissueseg.contracts import Batch, Outputs
from tissueseg.losses.base import HeadLoss
from tissueseg.losses.overlap import HEADS, soft_overlap
from tissueseg.numbers import check_number


class Dice(HeadLoss):
    """1 − (2Σpt + ε)/(Σp + Σt + ε) per tile and class, then the mean of all.

    Milletari et al. 2016 (V-Net, without their squares), background included where there are classes;
    see `soft_overlap` for heads of one logit. Most tiles lack most classes. There the loss is
    Σp/(Σp + ε): with ε = 1 pixel it falls as false claims fall; a tiny ε would hold it at 1 with no
    gradient to speak of.

    Args:
        epsilon: pixels added to both sums.
        head: the output it reads.

    Raises:
        ConfigError: epsilon not positive; a head without probabilities.
    """

    learns = HEADS

    def __init__(self, epsilon: float = 1.0, head: str = "classes") -> None:
        super().__init__(head)
        self.epsilon = check_number("Dice.epsilon", epsilon, above=0)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare logits (B, C, h, w) with the truth (H, W); 0 where none is known."""
        hit, claimed, truth = soft_overlap(self.head, outputs, batch)
        dice = (2 * hit + self.epsilon) / (claimed + truth + self.epsilon)
        return (1 - dice).mean()
