"""What the statistics of a comparison say: arms with intervals, pairs with tests, groups alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import NamedTuple

from tissueseg.reporting.samples import Measure


class Interval(NamedTuple):
    """An estimate and where the truth may lie."""

    estimate: float
    low: float
    high: float
    se: float  # bootstrap standard error
    df: float  # degrees of freedom of its t quantile
    covers: str  # what noise it holds: "tissues and seeds", "tissues", "seeds", "nothing"


@dataclass(frozen=True)
class ArmResult:
    """One arm on one measure."""

    arm: str
    interval: Interval
    by_seed: tuple[float, ...]  # score of every whole cross-validation
    seeds: tuple[int, ...]  # that all arms have
    units: int  # tissues (or folds) that bear on its score, of those that all arms have
    letters: str = ""  # arms that share one cannot be told apart; none: it has no score


@dataclass(frozen=True)
class Comparison:
    """One arm less another, on the tissues and seeds that all arms have."""

    arm: str
    other: str
    difference: Interval  # of scores: arm - other
    p_units: float  # sign-flip permutation over tissues (clusters); NaN: fewer than 2
    p_runs: float  # permutation of trainings between the arms, inside folds; NaN: one training each
    p: float  # the largest of these and `p_both`, for other tissues and trainings; NaN: one is missing
    p_holm: float  # of p, corrected within the family it stands in
    p_smallest: float  # no data of this size could give a smaller p
    effect: float  # standardised mean difference over tissues (Hedges' g of pairs); NaN: undefined
    wins: float  # share of tissues where `arm` is ahead, ties half
    units: int  # tissues compared
    seeds: int
    p_both: float = nan  # of the difference's interval: tissues and trainings vary at once
    untested: str = ""  # why `p` is NaN; such arms count as not told apart


@dataclass(frozen=True)
class Ranking:
    """All arms on one measure, the best first."""

    measure: Measure
    arms: tuple[ArmResult, ...]
    baseline: str
    against_baseline: tuple[Comparison, ...]  # Holm over these
    pairs: tuple[Comparison, ...]  # every pair, the better arm first; Holm over these
    groups: tuple[
        tuple[str, ...], ...
    ]  # largest sets of scored arms, no pair of which is told apart
    level: float  # of the intervals, .95
    alpha: float  # of the tests, .05
    notes: tuple[str, ...]  # what the reader must know: seeds missing, tissues left out …
