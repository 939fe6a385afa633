"""Arms of made values, of which a score is the mean over tissues."""

import numpy as np

from tissueseg.reporting.samples import ArmSample, Measure


def mean_of(sums):
    """Parts are (sum of values, their number)."""
    return sums[..., 0] / sums[..., 1]


MEAN = Measure("test/dice", "mean over tissues", mean_of, is_mean=True)
LOSS = Measure("test/loss", "mean over tissues", mean_of, higher_is_better=False, is_mean=True)


def arm(name, values, seeds=None, units=None, clusters=None, folds=None):
    """Values (S, T), NaN where a tissue has none; tissues alternate between two folds."""
    values = np.asarray(values, float)
    known = np.isfinite(values)
    units = units or tuple(f"t{n:02}" for n in range(values.shape[1]))
    return ArmSample(
        name,
        tuple(seeds or range(len(values))),
        units,
        clusters or units,
        folds or tuple(str(n % 2) for n in range(len(units))),
        np.stack([np.where(known, values, 0), known.astype(float)], -1),
    )


def noise(seed, seeds=4, tissues=12, size=0.01):
    return size * np.random.default_rng(seed).standard_normal((seeds, tissues))


def three_arms():
    """The best far ahead, the others alike but for noise."""
    tissues = np.linspace(0.4, 0.6, 12)
    return [
        arm("plain", tissues + noise(0)),
        arm("best", tissues + 0.2 + noise(1)),
        arm("other", tissues + noise(2)),
    ]
