"""Soft overlap of probabilities with the truth: the sums Dice and Focal Tversky share."""

from typing import NamedTuple

from torch import Tensor, arange

from tissueseg.contracts import IGNORE, Batch, Outputs
from tissueseg.heads import base_head
from tissueseg.losses.base import Truth, logits_of, truth_of

HEADS = ("classes", "foreground", "boundary")
"""Heads whose logits are probabilities of something that is there or not."""


class Overlap(NamedTuple):
    """Sums over the counted pixels of each tile; each (B, C) float32."""

    hit: Tensor  # Σ p·t, true positives
    claimed: Tensor  # Σ p
    truth: Tensor  # Σ t


def soft_overlap(head: str, outputs: Outputs, batch: Batch) -> Overlap:
    """Turn logits into probabilities and compare them with the truth.

    Classes by softmax, the background one of them; pixels of class IGNORE enter no sum. Heads of one
    logit by sigmoid, and C = 1: the positive class alone is scored, where CellViT's binary heads have
    two channels and score the background too.
    """
    logits = logits_of(head, outputs, batch)
    if base_head(head) == "classes":
        probs, truth = logits.softmax(dim=1), _one_hot(batch.classes, logits.shape[1])
    else:
        probs, truth = logits.sigmoid(), truth_of(head, batch)
    probs, values = probs * truth.known, truth.values * truth.known
    return Overlap(
        hit=(probs * values).sum((2, 3)),
        claimed=probs.sum((2, 3)),
        truth=values.sum((2, 3)).float(),
    )


def _one_hot(classes: Tensor, n_classes: int) -> Truth:
    ids = arange(n_classes, device=classes.device).view(1, -1, 1, 1)
    one_hot = classes.unsqueeze(1) == ids  # IGNORE equals no class
    return Truth(one_hot, (classes != IGNORE).unsqueeze(1))
