"""From stored intensities to what networks see; moments come from training tissues, or as published.

H&E: RGB / 255, minus mean, over std. SP: clip at the tissue's own quantile, `log1p`, minus the cohort's
mean, over its std + 1e-8 (the VirTues release's standardisation). An SP channel without signal in a
tissue is left out there: it reads 0, the cohort's mean, everywhere. Where the source publishes the
cohort's moments, they are used as they are: they belong to the data like a pixel size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from tissueseg.contracts import Modality, Normalisation
from tissueseg.errors import ConfigError
from tissueseg.store.statistics import ClipStatistics, clip_statistics
from tissueseg.store.tissues import TissueStore

_EPSILON = 1e-8


@dataclass(frozen=True)
class Normaliser:
    """Scales the images of one modality; fitted once, stamped on the checkpoint."""

    modality: Modality
    normalisation: Normalisation
    sp_mean: tuple[float, ...] = ()  # cohort moments per channel, after clip and log1p
    sp_std: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        store: TissueStore,
        train: Sequence[str],
        modality: Modality,
        normalisation: Normalisation,
    ) -> Self:
        """Take the moments the store states, or pool the training tissues'; reads no pixels."""
        if "sp" not in modality.images:
            return cls(modality, normalisation)
        if stated := stated_moments(store, normalisation):
            return cls(modality, normalisation, tuple(stated["mean"]), tuple(stated["std"]))
        moments = _pooled(store, train, normalisation.sp_quantile)
        mean = moments[0]
        std = np.sqrt(np.maximum(moments[1] - mean**2, 0))
        return cls(modality, normalisation, tuple(mean.tolist()), tuple(std.tolist()))

    def clips(self, store: TissueStore, tissue: str) -> np.ndarray:
        """(C,) float32 upper clips of a tissue's SP channels; NaN for a channel that is left out.

        That is one without signal in this tissue, or in every training tissue.
        """
        if "sp" not in self.modality.images:
            return np.empty(0, np.float32)
        found = zip(
            _statistics(store, tissue, self.normalisation.sp_quantile), self.sp_std, strict=True
        )
        return np.array(
            [s.clip if s.usable and std > 0 else np.nan for s, std in found], np.float32
        )

    def he(self, image: np.ndarray) -> np.ndarray:
        """Scale (3, H, W) uint8 to float32."""
        mean = np.asarray(self.normalisation.he_mean, np.float32)[:, None, None] * 255
        std = np.asarray(self.normalisation.he_std, np.float32)[:, None, None] * 255
        return (image - mean) / std

    def sp(self, image: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Scale (C, H, W) intensities to float32, given the tissue's clips."""
        mean = np.asarray(self.sp_mean, np.float32)[:, None, None]
        std = np.asarray(self.sp_std, np.float32)[:, None, None]
        missing = np.isnan(clips)
        clipped = np.minimum(image, np.where(missing, 0, clips)[:, None, None], dtype=np.float32)
        scaled = (np.log1p(clipped, out=clipped) - mean) / (std + _EPSILON)
        scaled[missing] = 0
        return scaled

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for the checkpoint."""
        return asdict(self) | {"modality": self.modality.value}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Read back what `as_dict` wrote."""
        return cls(
            Modality(stored["modality"]),
            Normalisation(**stored["normalisation"]),
            tuple(stored["sp_mean"]),
            tuple(stored["sp_std"]),
        )


def stated_moments(
    store: TissueStore, normalisation: Normalisation
) -> dict[str, list[float]] | None:
    """`mean` and `std` of every SP channel that the store's source published for this quantile."""
    return store.moments.get(str(normalisation.sp_quantile))


def silent_channels(
    store: TissueStore, tissues: Sequence[str], normaliser: Normaliser
) -> dict[str, list[str]]:
    """SP channels without signal, there or in training -> the tissues where they are left out."""
    silent: dict[str, list[str]] = {}
    for tissue in tissues:
        for channel in np.flatnonzero(np.isnan(normaliser.clips(store, tissue))):
            silent.setdefault(store.panel[channel].name, []).append(tissue)
    return silent


def _statistics(store: TissueStore, tissue: str, quantile: float) -> list[ClipStatistics]:
    stored = store.attributes(tissue)["statistics"]
    try:
        return [clip_statistics(channel, quantile) for channel in stored]
    except KeyError:
        known = ", ".join(stored[0]["quantiles"])
        raise ConfigError(
            f"sp_quantile={quantile} was not measured when {store.address} was prepared: "
            f"choose from {known}."
        ) from None


def _pooled(store: TissueStore, tissues: Sequence[str], quantile: float) -> np.ndarray:
    """(2, C): mean and mean square over the pixels of all tissues where a channel has signal."""
    sums = np.zeros((2, len(store.panel)))
    pixels = np.zeros(len(store.panel))
    for tissue in tissues:
        entry = store.entry(tissue)
        found = _statistics(store, tissue, quantile)
        weight = np.array([s.usable for s in found]) * float(entry.height * entry.width)
        sums += weight * np.array([[s.log_mean for s in found], [s.log_square for s in found]])
        pixels += weight
    return sums / np.maximum(pixels, 1)
