"""What runs measured, in the form that statistics resample: parts that add up over tissues.

Every score is a function of sums over tissues: pooled Dice of summed confusion counts, a mean over
tissues of summed values and their number. So whatever resamples tissues weighs parts, adds them up and
calls one function, and pixels are never averaged where tissues were meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Parts = NDArray[np.float64]
Score = Callable[[Parts], NDArray[np.float64]]
"""Sums of parts (..., *k) -> (...); NaN: undefined."""


@dataclass(frozen=True)
class Measure:
    """One score of a run, and what it is an average of."""

    key: str  # such as `test/dice/macro_foreground`
    averaging: str  # in words: "pooled over all pixels of the tissues"
    score: Score  # of sums of parts
    higher_is_better: bool = True
    unit: str = "tissue"  # what samples are made of; fold, where a run kept no score of each
    is_mean: bool = False  # over units that have a score of their own; else sums are scored
    has_patients: bool = False  # clusters are patients, of whom some have several tissues

    @property
    def cluster(self) -> str:
        """What is resampled and exchanged whole."""
        return "patient" if self.has_patients else self.unit


@dataclass(frozen=True)
class ArmSample:
    """What the runs of one arm measured: every tissue by the fold that held it out, once per seed."""

    arm: str
    seeds: tuple[int, ...]  # (S,) each a whole cross-validation
    units: tuple[str, ...]  # (T,) names of tissues (or folds, see Measure.unit)
    clusters: tuple[str, ...]  # (T,) patient of each, else its own name; resampled whole
    folds: tuple[str, ...]  # (T,) fold whose runs held it out; seed × fold is one training
    parts: Parts  # (S, T, *k)

    def __post_init__(self) -> None:
        seeds, units = self.parts.shape[:2]
        lengths = {len(self.units), len(self.clusters), len(self.folds), units}
        if len(lengths) > 1 or len(self.seeds) != seeds:
            shape = self.parts.shape
            raise ValueError(f"parts of shape {shape} for {self.seeds} and {self.units}.")
