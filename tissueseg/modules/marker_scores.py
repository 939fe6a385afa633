"""How well hidden markers are told from the others: correlations, pooled over held-out pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tissueseg.pretraining.autoencoder import Guess

_SUMS = 6  # count; sums of x, y, x², y², x·y
_ROUNDING = 1e-12  # of a variance, relative to the mean square


@dataclass(frozen=True)
class MarkerScore:
    """Of one marker."""

    marker: str
    pixels: int
    correlation: float  # Pearson's, of what was filled in with what is there
    baseline: float  # of what one would say without a network
    explained: float  # 1 - squared error / variance

    def row(self) -> dict[str, Any]:
        """Plain numbers for a table; what is undefined is None."""
        return {k: _defined(v) for k, v in vars(self).items()}


class MarkerTally:
    """Adds guesses up; memory does not grow with them.

    Args:
        markers: names.
    """

    def __init__(self, markers: Sequence[str]) -> None:
        self._markers = tuple(markers)
        self._sums = np.zeros((len(markers), 2, _SUMS))
        self._errors = np.zeros(len(markers))

    def add(self, guesses: Iterable[Guess]) -> None:
        """Count guesses of a batch."""
        for guess in guesses:
            wanted = guess.target.double()
            for which, said in enumerate((guess.predicted, guess.baseline)):
                self._sums[guess.marker, which] += _sums(said.double(), wanted)
            self._errors[guess.marker] += float((guess.predicted.double() - wanted).square().sum())

    def scores(self) -> list[MarkerScore]:
        """Of every marker that was guessed."""
        return [
            MarkerScore(
                name,
                int(sums[0, 0]),
                _correlation(sums[0]),
                _correlation(sums[1]),
                _explained(sums[0], error),
            )
            for name, sums, error in zip(self._markers, self._sums, self._errors, strict=True)
            if sums[0, 0]
        ]


def _sums(said: Tensor, wanted: Tensor) -> np.ndarray:
    parts = (torch.ones_like(said), said, wanted, said**2, wanted**2, said * wanted)
    return torch.stack([part.sum() for part in parts]).cpu().numpy()


def _correlation(sums: np.ndarray) -> float:
    n, x, y, xx, yy, xy = sums
    spread = _spread(n, x, xx) * _spread(n, y, yy)
    return float((n * xy - x * y) / math.sqrt(spread)) if spread else math.nan


def _explained(sums: np.ndarray, error: float) -> float:
    n, _, y, _, yy, _ = sums
    spread = _spread(n, y, yy)
    return float(1 - n * error / spread) if spread else math.nan


def _spread(n: float, x: float, xx: float) -> float:
    """n² times the variance; 0 where it is nothing but rounding."""
    spread = n * xx - x * x
    return spread if spread > _ROUNDING * n * xx else 0.0


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
