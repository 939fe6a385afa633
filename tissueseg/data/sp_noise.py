"""How training alters SP images: shot noise on intensities, then channels dropped, scaled and shifted.

Our own, since libraries of augmentation know three channels, all of them there. A channel that is
missing reads 0 before and after.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from tissueseg.errors import ConfigError
from tissueseg.numbers import check_number, is_number


class RawNoise(ABC):
    """A part that alters intensities as stored, before they are clipped."""

    @abstractmethod
    def __call__(self, image: np.ndarray, clips: np.ndarray, rng: Generator) -> np.ndarray:
        """Alter (C, H, W) intensities, of any number type, given (C,) clips, NaN for missing ones."""


class ScaledNoise(ABC):
    """A part that alters normalised channels (clipped, logarithm taken, standardised)."""

    @abstractmethod
    def __call__(self, image: np.ndarray, present: np.ndarray, rng: Generator) -> np.ndarray:
        """Alter (C, H, W) float32 in place; returns (C,) bool, which of the present ones still are."""


@dataclass(frozen=True)
class ShotNoise(RawNoise):
    """Fewer photons: what Poisson statistics make of them, channel by channel.

    As a normal distribution of the same mean and variance, cut off at 0: a fifth of the time of counting
    photons, and the same but for shape below some five of them (Poisson, 1837; its normal limit).

    Attributes:
        photons: at a channel's clip value, least and most; drawn anew for every tile, evenly in their
            logarithm.
        p: chance of it.
    """

    photons: tuple[float, float] = (30.0, 300.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "photons", _interval("photons", self.photons))
        check_number("ShotNoise.p", self.p, 0, 1)

    def __call__(self, image: np.ndarray, clips: np.ndarray, rng: Generator) -> np.ndarray:
        """See `RawNoise`."""
        if rng.random() >= self.p:
            return image
        photons = np.exp(rng.uniform(*np.log(self.photons)))
        unit = np.where(np.isnan(clips), 1, clips / photons).astype(np.float32)[:, None, None]
        counts = np.maximum(image, 0, dtype=np.float32)
        counts /= unit
        noise = rng.standard_normal(counts.shape, np.float32)
        noise *= np.sqrt(counts)
        counts += noise
        return np.maximum(counts, 0, out=counts) * unit


@dataclass(frozen=True)
class ChannelDropout(ScaledNoise):
    """Channels left out: a decoder must not hang on one marker.

    Attributes:
        p: chance of every channel; if all would go, the one nearest to staying stays.
    """

    p: float = 0.1

    def __post_init__(self) -> None:
        check_number("ChannelDropout.p", self.p, 0, 1)

    def __call__(self, image: np.ndarray, present: np.ndarray, rng: Generator) -> np.ndarray:
        """See `ScaledNoise`."""
        drawn = np.where(present, rng.random(len(present)), -1.0)
        kept = present & ((drawn >= self.p) | (drawn == drawn.max()))
        image[~kept] = 0
        return kept


@dataclass(frozen=True)
class Gain(ScaledNoise):
    """Contrast of every channel, × U(1 - amount, 1 + amount), about the cohort's mean, which is 0.

    Attributes:
        amount: 0 … 1.
        p: chance of it; then all channels, each by a number of its own.
    """

    amount: float = 0.2
    p: float = 1.0

    def __post_init__(self) -> None:
        check_number("Gain.amount", self.amount, 0, 1)
        check_number("Gain.p", self.p, 0, 1)

    def __call__(self, image: np.ndarray, present: np.ndarray, rng: Generator) -> np.ndarray:
        """See `ScaledNoise`."""
        if rng.random() < self.p:
            image *= rng.uniform(1 - self.amount, 1 + self.amount, (len(image), 1, 1)).astype("f4")
        return present


@dataclass(frozen=True)
class Offset(ScaledNoise):
    """Background of every channel, + U(-amount, amount), in standard deviations of the cohort.

    In logarithms, so that it stands for another exposure too.

    Attributes:
        amount: 0 … 10.
        p: chance of it; then all channels, each by a number of its own.
    """

    amount: float = 0.2
    p: float = 1.0

    def __post_init__(self) -> None:
        check_number("Offset.amount", self.amount, 0, 10)
        check_number("Offset.p", self.p, 0, 1)

    def __call__(self, image: np.ndarray, present: np.ndarray, rng: Generator) -> np.ndarray:
        """See `ScaledNoise`."""
        if rng.random() < self.p:
            shift = rng.uniform(-self.amount, self.amount, len(image))
            image += np.where(present, shift, 0).astype(np.float32)[:, None, None]
        return present


def _interval(key: str, value: object) -> tuple[float, float]:
    """Least and most of something positive."""
    ends = tuple(value) if isinstance(value, list | tuple) else ()
    if len(ends) != 2 or not all(map(is_number, ends)) or not 0 < ends[0] <= ends[1]:
        raise ConfigError(
            f"ShotNoise.{key}={value}, wanted least and most, such as [30, 300], the least above 0."
        )
    return float(ends[0]), float(ends[1])
