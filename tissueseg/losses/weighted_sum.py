"""Sum of named loss terms, each with its weight: the loss a run is trained with.

Terms are a dict, so that an experiment adds or reweights one by name. A term of weight 0 is not
built at all: its head then counts as untrained, which `check_composition` reports.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tissueseg.contracts import Batch, Outputs
from tissueseg.errors import ConfigError


class Term(NamedTuple):
    """One summand."""

    weight: float  # finite, not negative
    loss: nn.Module  # has `head`; forward(outputs, batch) -> scalar


class LossValue(NamedTuple):
    """What a step gets from the loss."""

    total: Tensor  # scalar with graph
    terms: dict[str, Tensor]  # name -> scalar before weighting, detached, for logging


class WeightedSum(nn.Module):
    """Σ weight · loss over the terms of non-zero weight.

    Args:
        terms: name -> {weight, loss}.

    Raises:
        ConfigError: a weight that is negative or not finite, or no term left.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        kept = {name: Term(**term) for name, term in terms.items()}
        for name, term in kept.items():
            if not (math.isfinite(term.weight) and term.weight >= 0):
                raise ConfigError(
                    f"loss.terms.{name}.weight={term.weight}, wanted a finite number ≥ 0; "
                    "0 leaves the term out."
                )
        kept = {name: term for name, term in kept.items() if term.weight > 0}
        if not kept:
            raise ConfigError("loss.terms has no term of positive weight; give at least one.")
        self.weights = {name: float(term.weight) for name, term in kept.items()}
        self.losses = nn.ModuleDict({name: term.loss for name, term in kept.items()})

    @property
    def heads(self) -> frozenset[str]:
        """Heads the terms read."""
        return frozenset(str(loss.head) for loss in self.losses.values())

    def forward(self, outputs: Outputs, batch: Batch) -> LossValue:
        """Evaluate every term and add them up, in float32."""
        device = next(iter(outputs.values())).device.type
        with torch.autocast(device, enabled=False):  # sums over 10⁵ pixels are lost in bf16
            terms = {name: loss(outputs, batch) for name, loss in self.losses.items()}
            total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return LossValue(total, {name: term.detach() for name, term in terms.items()})
