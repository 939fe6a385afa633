"""What is odd about a tissue's cells, from the facts of its masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tissueseg.inspection.findings import Level, Oddity, share
from tissueseg.inspection.masks import FRAGMENT_PX, MaskFacts, diameter

MEDIAN_UM = (3.0, 30.0)  # of nuclei and of cells; outside, the scale or the mask is wrong
GIANT_UM = 60.0
FEW = 0.01  # share of the instances up to which an oddity is only noticed


def cell_oddities(tissue: str, facts: MaskFacts, mpp: float | None) -> Iterator[Oddity]:
    """Check the masks of one tissue."""
    if not facts.instances:
        yield Oddity(
            tissue,
            "warning",
            "masks",
            "instance mask without a cell",
            "0 instances",
            "wanted nuclei or cells: is it the right mask file? Leave the tissue out if not",
            0.0,
        )
        return
    yield from _counted(tissue, facts)
    if mpp is not None:
        yield from _sizes(tissue, facts, mpp)
    if facts.stray_px:
        yield Oddity(
            tissue,
            "notice",
            "masks",
            "class pixels outside every instance",
            f"{facts.stray_px} px",
            "they train class heads but are no cell: intended for regions, "
            "else check that both masks come from the same segmentation",
            float(facts.stray_px),
        )


def _counted(tissue: str, facts: MaskFacts) -> Iterator[Oddity]:
    """Oddities that some of the instances have."""
    for found, total, least, what, advice in (*_of_pieces(facts), *_of_instances(facts)):
        if found:
            level: Level = "warning" if found / total > least else "notice"
            shown = f"{found} of {total} ({share(found, total)})"
            yield Oddity(tissue, level, "masks", what, shown, advice, found / total)


class _Count(NamedTuple):
    """How many instances are odd in one way."""

    found: int
    total: int
    least: float  # share above which it is worth a warning
    what: str
    advice: str


def _of_pieces(facts: MaskFacts) -> Iterator[_Count]:
    asked = max(facts.instances - facts.unasked, 1)
    seam = f" ({facts.unasked} at window seams not asked)" if facts.unasked else ""
    yield _Count(
        facts.reused,
        asked,
        0.0,
        "ids used twice, for cells far apart",
        f"in up to {facts.most_pieces} pieces{seam}: give every cell an id of its own (label connected "
        "parts; add an offset where ids restart per tile)",
    )
    yield _Count(
        facts.split,
        asked,
        FEW,
        "instances split in pieces near each other",
        f"each should be connected{seam}: keep the largest piece, or relabel",
    )


def _of_instances(facts: MaskFacts) -> Iterator[_Count]:
    yield _Count(
        facts.fragments,
        facts.instances,
        FEW,
        f"instances of at most {FRAGMENT_PX} px",
        "nuclei have tens of pixels: remove specks before preparing",
    )
    yield _Count(
        facts.mixed,
        facts.instances,
        FEW,
        "instances with several classes",
        "wanted one class per cell: paint classes from the instances, or describe `types`",
    )
    yield _Count(
        facts.unknown,
        facts.instances,
        np.inf,
        "cells of unknown class",
        "they count as cells but no class loss sees them",
    )


def _sizes(tissue: str, facts: MaskFacts, mpp: float) -> Iterator[Oddity]:
    across = mpp * diameter(facts.median_px)
    low, high = MEDIAN_UM
    if not low <= across <= high:
        size = "small" if across < low else "large"
        yield Oddity(
            tissue,
            "warning",
            "size",
            f"{size} cells",
            f"median area {facts.median_px:g} px at {mpp:g} µm/px is {across:.1f} µm across",
            "nuclei are 5–15: is mpp wrong, or the mask at another resolution?",
            abs(float(np.log(across / np.sqrt(low * high)))),
        )
    giant_px = np.pi * (GIANT_UM / mpp / 2) ** 2
    if giants := int((facts.areas_px > giant_px).sum()):
        largest = mpp * diameter(float(facts.areas_px[-1]))
        yield Oddity(
            tissue,
            "warning",
            "size",
            f"instances of more than {GIANT_UM:g} µm across",
            f"{giants}, the largest {largest:.0f} µm",
            "merged cells or a tissue mask: split or remove them",
            largest,
        )
