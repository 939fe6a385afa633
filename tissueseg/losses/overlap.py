"""Soft overlap of class probabilities with the truth: the sums Dice and Focal Tversky share."""

from typing import NamedTuple

from torch import Tensor, arange

from tissueseg.contracts import IGNORE


class Overlap(NamedTuple):
    """Sums over the counted pixels of each tile; each (B, C) float32."""

    hit: Tensor  # Σ p·t, true positives
    claimed: Tensor  # Σ p
    truth: Tensor  # Σ t


def soft_overlap(logits: Tensor, classes: Tensor) -> Overlap:
    """Softmax the logits and compare them with the class image.

    Args:
        logits: (B, C, H, W).
        classes: (B, H, W) int64; IGNORE pixels enter no sum.
    """
    counted = (classes != IGNORE).unsqueeze(1)
    probs = logits.float().softmax(dim=1) * counted
    ids = arange(logits.shape[1], device=classes.device).view(1, -1, 1, 1)
    truth = classes.unsqueeze(1) == ids  # IGNORE equals no class
    return Overlap(
        hit=(probs * truth).sum((2, 3)),
        claimed=probs.sum((2, 3)),
        truth=truth.sum((2, 3)).float(),
    )
