"""Permutation tests of two arms: on tissues like these, and for trainings like these.

A claim that one arm is better should survive both. Scores are recomputed from what was swapped, so a
pooled score is tested as such, not a mean over tissues in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, reduce
from itertools import combinations
from math import comb, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tissueseg.metrics.averages import mean_defined
from tissueseg.reporting.samples import Parts
from tissueseg.reporting.statistics import Score, Values, scores

ARRANGEMENTS = 10_000  # as many are enumerated; of more, as many are drawn
_AT_ONCE = 1_000  # arrangements scored together: bounds memory where parts are confusion matrices


class Permuted(NamedTuple):
    """Outcome of a permutation test; NaN where nothing can be permuted."""

    p: float
    smallest: float  # p that the most extreme data of this size would get


def permute_units(first: Parts, second: Parts, score: Score, seed: int) -> Permuted:
    """Two-sided test that in every cluster the two arms could have changed names.

    Tests whether the arms differ on tissues like these, for the trainings at hand: all seeds of a
    cluster are swapped at once. The statistic is the difference of the pooled scores, mean over seeds.

    Args:
        first: (S, C, *k) by cluster.
        second: the same of the other arm.
        score: of sums.
        seed: of the arrangements, where they are too many to count.
    """
    clusters = first.shape[1]
    if clusters < 2:
        return Permuted(nan, nan)
    exact = 2**clusters <= ARRANGEMENTS
    if exact:
        swapped = np.stack(np.unravel_index(np.arange(2**clusters), (2,) * clusters), 1)
    else:
        swapped = np.random.default_rng((seed, clusters)).integers(0, 2, (ARRANGEMENTS, clusters))

    def differences() -> Iterator[Values]:
        less, a, b = second - first, first.sum(1), second.sum(1)
        yield _difference(score, a[None], b[None])
        for some in _in_turns(swapped):
            moved = np.tensordot(some, less, (1, 1))
            yield _difference(score, a + moved, b - moved)

    return _counted(differences(), 2 / 2**clusters, exact, _scale(score, first, second))


def permute_runs(first: Parts, second: Parts, score: Score, seed: int) -> Permuted:
    """Two-sided test that inside every fold the trainings of both arms could have changed names.

    Tests whether the arms differ for other trainings, on the tissues at hand. Which training of one
    fold meets which of another in a pooled score is by their order. Where a seed gave both arms the
    same start, their trainings are alike, which relabelling does not know: it errs towards large p.

    Args:
        first: (S, F, *k) by fold.
        second: the same of the other arm.
        score: of sums.
        seed: of the arrangements, where they are too many to count.
    """
    seeds, folds = first.shape[:2]
    if seeds * folds < 2:
        return Permuted(nan, nan)
    trainings = np.concatenate([first, second])
    count = comb(2 * seeds, seeds) ** folds
    orders = _relabelled(seeds, folds, seed, exact=count <= ARRANGEMENTS)

    def differences() -> Iterator[Values]:
        yield _difference(score, first.sum(1)[None], second.sum(1)[None])
        for some in _in_turns(orders):
            sums = reduce(np.add, (trainings[some[:, fold], fold] for fold in range(folds)))
            yield _difference(score, sums[:, :seeds], sums[:, seeds:])

    return _counted(differences(), 2 / count, count <= ARRANGEMENTS, _scale(score, first, second))


@lru_cache(maxsize=1)  # the same for every pair of a study
def _relabelled(seeds: int, folds: int, seed: int, exact: bool) -> NDArray[np.int64]:
    """Orders (N, F, 2 S) of a fold's trainings: the first S go to the first arm."""
    if not exact:
        rng = np.random.default_rng((seed, seeds, folds))
        mixed = rng.random((ARRANGEMENTS, folds, 2 * seeds)).argsort(-1)
        return np.concatenate([np.sort(half, -1) for half in np.split(mixed, 2, -1)], -1)
    chosen = list(combinations(range(2 * seeds), seeds))
    table = np.array([[*some, *(n for n in range(2 * seeds) if n not in some)] for some in chosen])
    of_fold = np.unravel_index(np.arange(len(table) ** folds), (len(table),) * folds)
    return table[np.stack(of_fold, 1)]


def _in_turns(arrangements: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(arrangements), _AT_ONCE):
        yield arrangements[start : start + _AT_ONCE]


def _difference(score: Score, first: Parts, second: Parts) -> Values:
    """Of the means over seeds, (N, S, *k) -> (N,)."""
    return mean_defined(scores(score, first), 1) - mean_defined(scores(score, second), 1)


def _scale(score: Score, first: Parts, second: Parts) -> float:
    found = np.abs([scores(score, first.sum(1)), scores(score, second.sum(1))])
    return float(np.max(found, initial=0, where=np.isfinite(found)))


def _counted(differences: Iterator[Values], smallest: float, exact: bool, scale: float) -> Permuted:
    """Share of arrangements at least as extreme as the first; undefined ones count as such."""
    observed = abs(float(next(differences)[0]))
    found = np.abs(np.concatenate(list(differences)))
    extreme = int((~(found < observed - 1e-10 * scale)).sum())  # sums in another order are ties
    if np.isnan(observed):
        return Permuted(nan, nan)
    if exact:
        return Permuted(extreme / len(found), smallest)
    return Permuted((1 + extreme) / (1 + len(found)), 1 / (1 + len(found)))
