"""Binary cross entropy on a head of one logit: foreground, boundary, and coarse ones."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tissueseg.contracts import Batch, Outputs
from tissueseg.losses.base import HeadLoss, logits_of, mean_where, truth_of
from tissueseg.numbers import check_number


class BinaryCrossEntropy(HeadLoss):
    """Mean of BCE-with-logits over the pixels whose truth is known; a nucleus without type has one.

    A batch without such pixels costs 0, with gradients of 0.

    Args:
        head: the output it reads.
        pos_weight: factor on the pixels that are foreground or boundary; None: 1, as in the study.

    Raises:
        ConfigError: another head, or a weight that is not positive.
    """

    learns = ("foreground", "boundary")
    pos_weight: Tensor | None

    def __init__(self, head: str, pos_weight: float | None = None) -> None:
        super().__init__(head)
        if pos_weight is not None:
            check_number("BinaryCrossEntropy.pos_weight", pos_weight, above=0, note="or null")
        weight = None if pos_weight is None else torch.tensor(float(pos_weight))
        self.register_buffer("pos_weight", weight, persistent=False)  # the config holds it

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare logits (B, 1, h, w) with the head's target (B, 1, H, W)."""
        truth = truth_of(self.head, batch)
        loss = F.binary_cross_entropy_with_logits(
            logits_of(self.head, outputs, batch),
            truth.values,
            pos_weight=self.pos_weight,
            reduction="none",
        )
        return mean_where(loss, truth.known)
