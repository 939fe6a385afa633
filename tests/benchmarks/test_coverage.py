"""How often intervals hold the truth, on simulated studies of which the truth is known.

`pytest -m benchmark tests/benchmarks/test_coverage.py -s` prints the table: coverage and mean width of
nominal 95 % intervals, beside the named baseline, percentiles of a bootstrap over tissues of the mean
over seeds. An arm's mean of values, its pooled Dice, and the difference of two arms, for noise that is
mostly of tissues, mostly of trainings, or both. Then what no seed shows, an effect of a fold on all
trainings of an arm, and the share of false alarms of each test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from tissueseg.reporting.pairs import compare
from tissueseg.reporting.samples import ArmSample, Measure
from tissueseg.reporting.statistics import Drawing, Resampled, interval, resample

pytestmark = pytest.mark.benchmark

STUDIES = 400
DRAWING = Drawing(replicates=300)
TISSUES, SEEDS = (4, 8, 16, 35), (1, 2, 3, 5)


class Noise(NamedTuple):
    """Standard deviations of crossed effects."""

    tissue: float
    seed: float
    both: float


NOISES = {
    "tissues": Noise(1.0, 0.1, 0.3),
    "seeds": Noise(0.1, 1.0, 0.3),
    "both": Noise(1.0, 0.5, 0.5),
}


class Case(NamedTuple):
    """What is simulated: parts of one study, by its effects, and the score of sums."""

    parts: Callable[[np.ndarray, np.random.Generator], np.ndarray]  # (S, T) -> (S, T, 2)
    score: Callable[[np.ndarray], np.ndarray]


def effects(noise: Noise, seeds: int, tissues: int, rng: np.random.Generator) -> np.ndarray:
    of_tissues = noise.tissue * rng.standard_normal((1, tissues))
    of_seeds = noise.seed * rng.standard_normal((seeds, 1))
    return of_tissues + of_seeds + noise.both * rng.standard_normal((seeds, tissues))


def values(effect: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([effect, np.ones_like(effect)], -1)


def pixels(effect: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Twice the true positives, and the area of truth and prediction: tissues of unequal size."""
    area = rng.lognormal(0, 0.5, (1, effect.shape[1])) * np.ones_like(effect)
    return np.stack([2 * area / (1 + np.exp(-0.6 - 0.5 * effect)), 2 * area], -1)


def ratio_of_sums(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


CASES = {"mean": Case(values, ratio_of_sums), "pooled dice": Case(pixels, ratio_of_sums)}


def naive(found: Resampled) -> tuple[float, float]:
    low, high = np.quantile(found.replicates.mean(1), (0.025, 0.975))
    return float(low), float(high)


def measured(bounds: list[tuple[float, float]], truth: float) -> str:
    low, high = np.array(bounds).T
    return f"{((low <= truth) & (truth <= high)).mean():6.3f} {(high - low).mean():7.3f}"


def simulated(case: Case, noise: Noise, seeds: int, tissues: int, paired: bool) -> list[Resampled]:
    """Studies of one arm, or of two that share the tissues' noise and have the rest of their own."""
    rng = np.random.default_rng((seeds, tissues, paired))
    own = Noise(0.5 * noise.tissue, noise.seed, noise.both)
    found = []
    for _ in range(STUDIES):
        if not paired:
            parts = case.parts(effects(noise, seeds, tissues, rng), rng)
            found.append(resample(parts, case.score, DRAWING))
            continue
        shared = noise.tissue * rng.standard_normal((1, tissues))
        state = rng.integers(2**32)  # of the areas, which both arms see
        one, other = (
            case.parts(shared + effects(own, seeds, tissues, rng), np.random.default_rng(state))
            for _ in range(2)
        )
        drawn = [resample(parts, case.score, DRAWING) for parts in (one, other)]
        found.append(drawn[0] - drawn[1])
    return found


def truth_of(case: Case, noise: Noise) -> float:
    """Mean over trainings of the score of endless tissues."""
    rng = np.random.default_rng(1)
    one = [case.parts(effects(noise, 1, 4000, rng), rng).sum(1) for _ in range(2000)]
    return float(case.score(np.concatenate(one)).mean())


@pytest.mark.parametrize("paired", [False, True], ids=["arm", "difference"])
@pytest.mark.parametrize("case", list(CASES))
def test_coverage_of_intervals(case, paired):
    print(f"\n{case}, {'difference of two arms' if paired else 'one arm'}, nominal .950")
    print("noise    tissues seeds |   ours   width |  naive   width")
    for name, noise in NOISES.items():
        truth = 0.0 if paired else truth_of(CASES[case], noise)
        for tissues in TISSUES:
            for seeds in SEEDS:
                found = simulated(CASES[case], noise, seeds, tissues, paired)
                intervals = [interval(study, DRAWING.level) for study in found]
                ours = measured([(held.low, held.high) for held in intervals], truth)
                percentiles = measured([naive(study) for study in found], truth)
                held = np.mean([held.low <= truth <= held.high for held in intervals])
                assert seeds < 3 or held > 0.88
                print(f"{name:8} {tissues:7} {seeds:5} | {ours} | {percentiles}")
                assert {held.covers for held in intervals} == {
                    "tissues" if seeds == 1 else "tissues and seeds"
                }


@pytest.mark.parametrize("fold_sd", [0.0, 0.5, 1.0])
def test_what_a_folds_training_set_does_to_all_seeds_is_not_covered(fold_sd):
    """Differences of equal arms: tissues .3, trainings .5, both .3, and an effect of fold × arm."""
    print(f"\neffect of fold × arm of sd {fold_sd}, nominal .950")
    for tissues, seeds, folds in ((8, 3, 2), (20, 3, 5), (35, 3, 5)):
        rng, held = np.random.default_rng((tissues, folds)), []
        fold_of = np.arange(tissues) * folds // tissues
        for _ in range(STUDIES):
            drawn = []
            for _arm in range(2):
                of_runs = 0.5 * rng.standard_normal((seeds, folds))
                of_folds = fold_sd * rng.standard_normal((1, folds))
                effect = effects(Noise(0.3, 0.0, 0.3), seeds, tissues, rng)
                effect += (of_runs + of_folds)[:, fold_of]
                drawn.append(resample(values(effect, rng), ratio_of_sums, DRAWING))
            found = interval(drawn[0] - drawn[1], DRAWING.level)
            held.append(found.low <= 0 <= found.high)
        print(f"{tissues:3} tissues {seeds} seeds {folds} folds | {np.mean(held):.3f}")
        assert np.mean(held) > 0.9 if fold_sd == 0 else np.mean(held) < 0.9


def arm(name: str, noise: Noise, seeds: int, tissues: int, rng: np.random.Generator) -> ArmSample:
    """An arm with noise of its own throughout, in two folds, so that names can be exchanged."""
    names = tuple(str(n) for n in range(tissues))
    folds = tuple(str(2 * n // tissues) for n in range(tissues))
    parts = values(effects(noise, seeds, tissues, rng), rng)
    return ArmSample(name, tuple(range(seeds)), names, names, folds, parts)


def test_false_alarms_of_tests():
    print("\nshare of p < .05 of equal arms, 200 studies each")
    print("noise    tissues seeds |  units   runs  larger   both  largest")
    measure = Measure("mean", "mean over tissues", ratio_of_sums)
    for name, noise in NOISES.items():
        for tissues, seeds in ((8, 3), (20, 5)):
            rng = np.random.default_rng(0)
            pairs = [
                compare(*(arm(n, noise, seeds, tissues, rng) for n in "ab"), measure, DRAWING)
                for _ in range(200)
            ]
            p = [(c.p_units, c.p_runs, max(c.p_units, c.p_runs), c.p_both, c.p) for c in pairs]
            shares = (np.array(p) < 0.05).mean(0)
            print(f"{name:8} {tissues:7} {seeds:5} | " + "  ".join(f"{x:.3f}" for x in shares))
            assert shares[-1] < 0.08
