"""Sum of named loss terms, each with its weight: the loss a run is trained with.

Terms are a dict, so that an experiment adds or reweights one by name. A term of weight 0, or null, is
left out: its head then counts as untrained, which `check_composition` reports.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tissueseg.contracts import Batch, Outputs
from tissueseg.errors import ConfigError
from tissueseg.heads import base_head
from tissueseg.losses.weights import parts, positive


class Term(NamedTuple):
    """One summand."""

    weight: float  # finite, not negative
    loss: nn.Module  # has `heads`, names of outputs; forward(outputs, batch) -> scalar


class LossValue(NamedTuple):
    """What a step gets from the loss."""

    total: Tensor  # scalar with graph
    terms: dict[str, Tensor]  # name -> scalar before weighting, detached, for logging


class WeightedSum(nn.Module):
    """Σ weight · loss over the terms of non-zero weight.

    With `uncertainty` the sums L of what is learnt (classes, foreground, boundary, hv; their coarse
    heads with them) are weighed against each other by Kendall et al. 2018: Σ exp(−s)·L + s/2, with one
    learnable s = log σ² each. At its start s = 0, and the total is the plain sum. The best s is
    log 2L: so the weights given here rule within such a sum, and between them only the beginning. The
    paper halves exp(−s) for squared errors; here not, for it shifts s by a constant. A sum of exactly
    0, as of a batch of which nothing is known, leaves its s alone.

    Args:
        terms: name -> {weight, loss}; null leaves one out.
        uncertainty: False: there is no parameter.

    Raises:
        ConfigError: terms of another form, a weight that is negative or not finite, no term
            left, or an uncertainty that is neither true nor false.
    """

    def __init__(
        self, terms: Mapping[str, Mapping[str, Any] | None], uncertainty: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(uncertainty, bool):
            raise ConfigError(f"loss.uncertainty={uncertainty}, wanted true or false.")
        given = {n: Term(**term) for n, term in parts(terms, "loss.terms", "weight").items()}
        for name, term in given.items():
            if not hasattr(term.loss, "heads"):
                raise ConfigError(
                    f"loss.terms.{name}.loss is {type(term.loss).__name__}, which names no heads that "
                    "it reads: choose one of tissueseg.losses."
                )
        weights = {name: term.weight for name, term in given.items()}
        self.weights = positive(weights, "loss.terms", "weight")
        self.losses = nn.ModuleDict({name: given[name].loss for name in self.weights})
        self.log_variances = nn.ParameterDict(
            {group: nn.Parameter(torch.zeros(())) for group in self.groups.values()}
            if uncertainty
            else {}
        )

    @property
    def heads(self) -> frozenset[str]:
        """Heads the terms read."""
        return frozenset(head for name in self.losses for head in self._heads_of(name))

    @property
    def groups(self) -> dict[str, str]:
        """Term -> what it learns: the base of its heads."""
        return {
            name: "+".join(sorted({base_head(head) for head in self._heads_of(name)}))
            for name in self.losses
        }

    def forward(self, outputs: Outputs, batch: Batch) -> LossValue:
        """Evaluate every term and add them up, in float32."""
        device = next(iter(outputs.values())).device.type
        with torch.autocast(device, enabled=False):  # sums over 10⁵ pixels are lost in bf16
            terms = {name: loss(outputs, batch) for name, loss in self.losses.items()}
            weighted = {name: self.weights[name] * term for name, term in terms.items()}
            total = self._total(weighted)
        return LossValue(total, {name: term.detach() for name, term in terms.items()})

    def _total(self, weighted: dict[str, Tensor]) -> Tensor:
        if not self.log_variances:
            return torch.stack(list(weighted.values())).sum()
        groups, parts = self.groups, []
        for group, s in self.log_variances.items():
            loss = torch.stack([w for name, w in weighted.items() if groups[name] == group]).sum()
            parts.append(torch.exp(-s) * loss + s / 2 * (loss.detach() != 0))
        return torch.stack(parts).sum()

    def _heads_of(self, name: str) -> tuple[str, ...]:
        return cast("tuple[str, ...]", self.losses[name].heads)
