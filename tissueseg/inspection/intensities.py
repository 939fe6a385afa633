"""SP channels that tell nothing or are cut off at the top, from the statistics the store holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from tissueseg.inspection.findings import Finding, Oddity, group, share
from tissueseg.store.notices import name_some
from tissueseg.store.statistics import QUANTILES, clip_statistics
from tissueseg.store.tissues import TissueStore

SATURATED = 0.01  # share of pixels at the highest value
LEAST_PLATEAU = 50  # counts below this repeat by chance

Statistics = dict[str, list[dict[str, Any]]]
"""Tissue -> what the store remembers of each channel."""


def channel_findings(store: TissueStore) -> Iterator[Finding]:
    """Dead, weak and saturated SP channels of a store."""
    if "sp" not in store.images:
        return
    stored: Statistics = {t: store.attributes(t)["statistics"] for t in store.tissues}
    yield from _without_variance(store, stored)
    yield from group(_saturated(store, stored))


def _without_variance(store: TissueStore, stored: Statistics) -> Iterator[Finding]:
    """One line per set of tissues: channels that are flat there, once clipped.

    Rare markers have nothing above 0 at the lower quantile in tissues where they are absent, which is
    worth a notice. Flat at the higher quantile everywhere, a channel is dead.
    """
    low, high = QUANTILES[0], QUANTILES[-1]
    kinds: dict[tuple[tuple[str, ...], int], list[str]] = defaultdict(list)
    for i, channel in enumerate(store.panel):
        flat = tuple(t for t in stored if not clip_statistics(stored[t][i], low).usable)
        still = sum(not clip_statistics(stored[t][i], high).usable for t in flat)
        if flat:
            kinds[flat, still].append(channel.name)
    for (flat, still), names in kinds.items():
        plural = len(names) > 1
        dead = still == len(stored)
        advice = "leave it out of the panel, or check the order of its planes" if dead else ""
        yield Finding(
            "warning" if dead else "notice",
            "dead channel" if dead else "weak channel",
            flat,
            f"SP channel{'s' * plural} {', '.join(names)} {'have' if plural else 'has'} no variance "
            f"below the {low} quantile in {len(flat)} of {len(stored)} ({name_some(flat)}), below the "
            f"{high} quantile in {still}: {'they tell' if plural else 'it tells'} nothing there"
            + f"; {advice}"
            * bool(advice),
        )


def _saturated(store: TissueStore, stored: Statistics) -> Iterator[Oddity]:
    for tissue, channels in stored.items():
        dtype = store.array_type(tissue, "sp").dtype
        for channel, found in zip(store.panel, channels, strict=True):
            part, highest = found.get("saturated", 0.0), found["max"]
            flat = not clip_statistics(found, QUANTILES[-1]).usable
            if part > SATURATED and not flat and _may_saturate(highest, dtype):
                yield Oddity(
                    tissue,
                    "warning",
                    "saturation",
                    f"saturated pixels of SP channel {channel.name}",
                    f"{share(part, 1)} at the highest value, {highest:g}",
                    f"wanted at most {share(SATURATED, 1)}: export without clipping or stretching, or "
                    "expose shorter",
                    part,
                )


def _may_saturate(highest: float, dtype: np.dtype) -> bool:
    """Whether many pixels at the highest value are a plateau, not a handful of photon counts."""
    if dtype.kind == "f":
        return True
    return highest == np.iinfo(dtype).max or highest >= LEAST_PLATEAU
