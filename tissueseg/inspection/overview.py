"""Inspecting a whole store: every tissue measured once, then judged alone and together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tissueseg.inspection.brightfield import (
    BrightfieldFacts,
    brightfield_oddities,
    measure_brightfield,
)
from tissueseg.inspection.cell_oddities import cell_oddities
from tissueseg.inspection.cohort import cohort_findings
from tissueseg.inspection.findings import Finding, Oddity, group
from tissueseg.inspection.intensities import channel_findings
from tissueseg.inspection.masks import MaskFacts, measure_masks
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.inspection.registration import (
    RegistrationFacts,
    measure_registration,
    registration_oddities,
)
from tissueseg.inspection.thumbnails import Thumbnail
from tissueseg.store.notices import name_some
from tissueseg.store.tissues import TissueStore


class TissueFacts(NamedTuple):
    """What was measured of one tissue."""

    masks: MaskFacts
    brightfield: BrightfieldFacts | None
    registration: RegistrationFacts
    altered: tuple[str, ...]  # arrays whose pixels are not those that were prepared


class Inspection(NamedTuple):
    """A store, measured and judged."""

    tissues: Mapping[str, TissueFacts]
    findings: tuple[Finding, ...]  # warnings first
    warnings: Counter[str]  # tissue -> warnings that name it


def shrink_images(
    pixels: TissuePixels, channels: Sequence[int], side_px: int
) -> dict[str, np.ndarray]:
    """Read a tissue's images through, once.

    Args:
        pixels: of the tissue.
        channels: of its SP image that are wanted.
        side_px: of the longer side of what is returned.

    Returns:
        `he` and `sp`, those there are -> (3 or len(channels), height, width) float32.
    """
    small = {}
    for kind in pixels.store.images:
        wanted = range(3) if kind == "he" else channels
        thumbnail = Thumbnail(pixels.shape, wanted, side_px)
        for window, planes in pixels.windows(kind):
            thumbnail.add(window, planes)
        small[kind] = thumbnail.image()
    return small


def measure(pixels: TissuePixels) -> TissueFacts:
    """Read a tissue's masks through, once, and its images in places.

    Images that were read through before are compared with what was prepared.
    """
    masks = measure_masks(pixels)
    brightfield = measure_brightfield(pixels) if "he" in pixels.store.images else None
    registration = measure_registration(pixels, masks.grid)
    return TissueFacts(masks, brightfield, registration, tuple(pixels.altered()))


def judge(store: TissueStore, tissues: Mapping[str, TissueFacts]) -> Inspection:
    """Say what is wrong with a store.

    Args:
        store: written by `tissueseg.prepare`.
        tissues: name -> what was measured, of every tissue.
    """
    masks = {tissue: found.masks for tissue, found in tissues.items()}
    oddities = (odd for tissue, found in tissues.items() for odd in _odd(store, tissue, found))
    labels = _without_labels(store)
    findings = (*labels, *cohort_findings(store, masks), *channel_findings(store), *group(oddities))
    ranked = sorted(findings, key=lambda finding: finding.level != "warning")
    warnings = Counter(t for f in findings if f.level == "warning" for t in f.tissues)
    return Inspection(tissues, tuple(ranked), warnings)


def _without_labels(store: TissueStore) -> Iterator[Finding]:
    if bare := store.unlabelled:
        says = f"no labels in {name_some(bare)}: to predict on, not to train on or to score"
        yield Finding("notice", "masks", bare, says)


def _odd(store: TissueStore, tissue: str, facts: TissueFacts) -> Iterator[Oddity]:
    if facts.altered:
        yield Oddity(
            tissue,
            "warning",
            "pixels",
            "pixels that differ from those prepared",
            ", ".join(facts.altered),
            "files of the store were lost or changed: prepare again",
            float(len(facts.altered)),
        )
    if facts.brightfield is not None:
        yield from brightfield_oddities(tissue, facts.brightfield)
    if store.labelled(tissue):
        yield from cell_oddities(tissue, facts.masks, store.mpp)
    yield from registration_oddities(store, tissue, facts.registration)
