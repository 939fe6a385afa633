"""What every loss on one head shares: its name checked, logits at tile size, the truth where known.

A coarse head is compared at the tile's size, its logits interpolated, and not with a target made
smaller: so a pixel of which nothing is known stays one pixel, and thin boundaries stay there.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from tissueseg.contracts import Batch, Outputs
from tissueseg.errors import ConfigError
from tissueseg.heads import base_head


class HeadLoss(nn.Module):
    """A loss on one head.

    Args:
        head: the output it reads, coarse or not; its truth is that of its base head.

    Raises:
        ConfigError: a head that the loss cannot be compared with.
    """

    learns: ClassVar[tuple[str, ...]] = ()
    """Base heads whose truth it understands."""

    def __init__(self, head: str) -> None:
        super().__init__()
        if not isinstance(head, str) or base_head(head) not in self.learns:
            raise ConfigError(
                f"{type(self).__name__} got head={head}; choose from {', '.join(self.learns)}, or a "
                "coarse one such as boundary_stride4."
            )
        self.head = head

    @property
    def heads(self) -> tuple[str, ...]:
        """Outputs it reads."""
        return (self.head,)


class Truth(NamedTuple):
    """What a head should say; both (B, c, H, W)."""

    values: Tensor  # float32, 0 where not known
    known: Tensor  # bool


def truth_of(head: str, batch: Batch) -> Truth:
    """The target of a head, known where it is not NaN and the instance of the pixel is known."""
    target = batch.targets[base_head(head)].float()
    return Truth(target.nan_to_num(), batch.valid.unsqueeze(1) & ~target.isnan())


def logits_of(head: str, outputs: Outputs, batch: Batch) -> Tensor:
    """Logits of a head in float32, (B, c, H, W) at the size of the batch's tiles."""
    logits, size = outputs[head].float(), batch.classes.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the counted entries; 0, with gradients of 0, where none is."""
    return values.where(counted, 0.0).sum() / counted.sum().clamp(min=1)
