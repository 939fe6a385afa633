"""Binary cross entropy on the boundary head."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tissueseg.contracts import Batch, Outputs


class BoundaryBCE(nn.Module):
    """Mean of BCE-with-logits over the pixels whose instance is known, typed or not.

    A batch without such pixels costs 0, with gradients of 0.

    Args:
        pos_weight: factor on boundary pixels, which are few; None: 1, as in the study.
        head: the output and the target it reads.
    """

    pos_weight: Tensor | None

    def __init__(self, pos_weight: float | None = None, head: str = "boundary") -> None:
        super().__init__()
        self.head = head
        weight = None if pos_weight is None else torch.tensor(float(pos_weight))
        self.register_buffer("pos_weight", weight, persistent=False)  # the config holds it

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare logits (B, 1, H, W) with `batch.targets[head]` where it is known and `batch.valid`."""
        target = batch.targets[self.head].float()
        valid = batch.valid.unsqueeze(1) & ~target.isnan()
        loss = F.binary_cross_entropy_with_logits(
            outputs[self.head].float(),
            target.nan_to_num(),
            pos_weight=self.pos_weight,
            reduction="none",
        )
        return loss.where(valid, 0.0).sum() / valid.sum().clamp(min=1)
