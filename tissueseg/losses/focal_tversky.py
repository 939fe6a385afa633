"""Focal Tversky loss, on the class head or on one of one logit."""

from torch import Tensor

from tissueseg.contracts import Batch, Outputs
from tissueseg.losses.base import HeadLoss
from tissueseg.losses.overlap import HEADS, soft_overlap
from tissueseg.numbers import check_number

FLOOR = 1e-6
"""1 − TI below this counts as 0: rounding may leave it negative, and for γ < 1 its slope is infinite."""


class FocalTversky(HeadLoss):
    """(1 − TI)^γ with TI = (TP + ε)/(TP + α·FN + β·FP + ε), mean over classes;
    see `soft_overlap` for heads of one logit, whose positive class is the only one.

    Abraham & Khan 2018, eq. 3 and 4, with γ where they write 1/γ. Sums run over the whole batch, as in
    the paper's code and CellViT's, where Dice takes each tile for itself: so a rare class is weighed
    over all its pixels, and the value depends a little on the batch size.

    Args:
        alpha: weight of missed pixels (FN).
        beta: weight of wrongly claimed ones (FP).
        gamma: above 1 it spares classes that are nearly right, below 1 the reverse.
        epsilon: pixels added to both sides; see `Dice` for why not tiny.
        head: the output it reads.

    Raises:
        ConfigError: gamma or epsilon not positive, or alpha or beta negative; a head
            without probabilities.
    """

    learns = HEADS

    def __init__(
        self,
        alpha: float = 0.7,
        beta: float = 0.3,
        gamma: float = 4 / 3,
        epsilon: float = 1.0,
        head: str = "classes",
    ) -> None:
        super().__init__(head)
        self.alpha = check_number("FocalTversky.alpha", alpha, 0)
        self.beta = check_number("FocalTversky.beta", beta, 0)
        self.gamma = check_number("FocalTversky.gamma", gamma, above=0)
        self.epsilon = check_number("FocalTversky.epsilon", epsilon, above=0)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare logits (B, C, h, w) with the truth (H, W); 0 where none is known."""
        hit, claimed, truth = (s.sum(0) for s in soft_overlap(self.head, outputs, batch))
        missed, wrong = truth - hit, claimed - hit
        tversky = (hit + self.epsilon) / (
            hit + self.alpha * missed + self.beta * wrong + self.epsilon
        )
        lacking = 1 - tversky
        return lacking.clamp(min=FLOOR).pow(self.gamma).where(lacking > FLOOR, 0.0).mean()
