"""SP images as people see them: which channels are shown, and how bright."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tissueseg.drawing import composite
from tissueseg.store.statistics import QUANTILES, clip_statistics
from tissueseg.store.tissues import TissueStore

SHOWN = 3


def shown_channels(store: TissueStore, tissues: Sequence[str]) -> list[int]:
    """A nuclear channel, then the most varied others over some tissues: blue, green, red."""
    if "sp" not in store.images:
        return []
    spread = np.zeros(len(store.panel))
    for tissue in tissues:
        found = (clip_statistics(s, QUANTILES[0]) for s in store.attributes(tissue)["statistics"])
        spread += [f.log_square - f.log_mean**2 for f in found]
    ranked = [int(i) for i in np.argsort(-spread, kind="stable")]
    first = [i for i in ranked if store.panel[i].nuclear][:1]
    return (first + [i for i in ranked if not store.panel[i].nuclear])[:SHOWN]


def sp_picture(
    store: TissueStore, tissue: str, planes: np.ndarray, channels: Sequence[int]
) -> np.ndarray:
    """(H, W, 3) uint8 of channels, each scaled to its clip in the tissue.

    Args:
        store: they come from.
        tissue: its name.
        planes: (len(channels), H, W) intensities.
        channels: their places in the panel.
    """
    stored = store.attributes(tissue)["statistics"]
    return composite(list(planes), [_clip(stored[i]) for i in channels])


def _clip(stored: dict[str, Any]) -> float:
    """The upper clip; a higher one where the marker is too rare to show below the first."""
    found = (clip_statistics(stored, q) for q in (QUANTILES[0], QUANTILES[-1]))
    return next((f.clip for f in found if f.usable), 0.0)
