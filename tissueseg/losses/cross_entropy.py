"""Cross entropy on the class head."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tissueseg.contracts import IGNORE, Batch, Outputs
from tissueseg.errors import ConfigError
from tissueseg.losses.base import HeadLoss, logits_of


class CrossEntropy(HeadLoss):
    """Mean over the batch's counted pixels of −w_t·log p_t, divided by the mean weight.

    As `torch.nn.functional.cross_entropy`, but a batch without any counted pixel costs 0, with
    gradients of 0, where torch gives NaN.

    Args:
        class_weights: one per class, such as from `inverse_frequency`; None: all 1.
        head: the output it reads.
    """

    learns = ("classes",)
    weight: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, head: str = "classes") -> None:
        super().__init__(head)
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)  # the config holds it

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare logits (B, C, h, w) with `batch.classes`.

        Raises:
            ConfigError: another number of class weights than logits.
        """
        logits = logits_of(self.head, outputs, batch)
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ConfigError(
                f"class_weights has {len(self.weight)} numbers, but there are {logits.shape[1]} "
                "classes; give one per class, background first, or null."
            )
        total = F.cross_entropy(
            logits, batch.classes, self.weight, ignore_index=IGNORE, reduction="sum"
        )
        return total / self._mass(batch.classes)

    def _mass(self, classes: Tensor) -> Tensor:
        """Sum of weights over counted pixels; 1 where that is 0, for 0/1 is the 0 we want."""
        counted = classes != IGNORE
        if self.weight is None:
            mass = counted.sum()
        else:
            mass = self.weight[classes.where(counted, 0)].where(counted, 0.0).sum()
        return mass.where(mass > 0, 1)
