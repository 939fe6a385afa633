"""One truth learnt at several scales of the decoder, each with its weight.

Lee et al. 2015 (deeply-supervised nets): a coarse head gets a gradient of its own, so what a slot reads
from it means something before the decoder's end does.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tissueseg.contracts import Batch, Outputs
from tissueseg.losses.weights import parts, positive


class Part(NamedTuple):
    """One loss that every scale has."""

    factor: float  # finite, not negative
    loss: Callable[..., nn.Module]  # takes head=…


class DeepSupervision(nn.Module):
    """Σ over heads of w · Σ over losses of factor · loss; weights are not scaled to any sum.

    Args:
        weights: head -> w, such as boundary_stride4: 0.25; 0 leaves a head untrained.
        losses: name -> {factor, loss}, the loss a partial that still wants its head; null leaves one
            out.

    Raises:
        ConfigError: weights or factors that are negative or not finite, or all 0.
    """

    def __init__(
        self, weights: Mapping[str, float], losses: Mapping[str, Mapping[str, Any] | None]
    ) -> None:
        super().__init__()
        key = "DeepSupervision.losses"
        given = {n: Part(**part) for n, part in parts(losses, key, "factor").items()}
        self.weights = positive(weights, "DeepSupervision.weights")
        self.factors = positive({n: part.factor for n, part in given.items()}, key, "factor")
        self.losses = nn.ModuleDict(
            {
                head: nn.ModuleDict({name: given[name].loss(head=head) for name in self.factors})
                for head in self.weights
            }
        )

    @property
    def heads(self) -> tuple[str, ...]:
        """Outputs it reads."""
        return tuple(self.weights)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Compare every scale with the truth at tile size."""
        scales = [
            weight * self.factors[name] * loss(outputs, batch)
            for head, weight in self.weights.items()
            for name, loss in self.losses[head].items()  # pyright: ignore[reportCallIssue]
        ]
        return torch.stack(scales).sum()
