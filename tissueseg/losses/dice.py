"""Dice loss on the class head."""

from torch import Tensor, nn

from tissueseg.contracts import Batch, Outputs
from tissueseg.losses.overlap import soft_overlap


class Dice(nn.Module):
    """1 − (2Σpt + ε)/(Σp + Σt + ε) on softmax, per tile and class, then the mean of all.

    Milletari et al. 2016 (V-Net, without their squares), background included. Most tiles lack most
    classes. There the loss is Σp/(Σp + ε): with ε = 1 pixel it falls as false claims fall; a tiny ε
    would hold it at 1 with no gradient to speak of.

    Args:
        epsilon: pixels added to both sums.
        head: the output it reads.
    """

    def __init__(self, epsilon: float = 1.0, head: str = "classes") -> None:
        super().__init__()
        self.epsilon = epsilon
        self.head = head

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare logits (B, C, H, W) with `batch.classes`; 0 where every pixel is IGNORE."""
        hit, claimed, truth = soft_overlap(outputs[self.head], batch.classes)
        dice = (2 * hit + self.epsilon) / (claimed + truth + self.epsilon)
        return (1 - dice).mean()
