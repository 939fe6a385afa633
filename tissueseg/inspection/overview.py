"""Inspecting a whole store: every tissue measured once, then judged alone and together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tissueseg.inspection.brightfield import (
    BrightfieldFacts,
    brightfield_oddities,
    measure_brightfield,
)
from tissueseg.inspection.cells import cell_oddities
from tissueseg.inspection.cohort import cohort_findings
from tissueseg.inspection.findings import Finding, Oddity, group
from tissueseg.inspection.intensities import channel_findings
from tissueseg.inspection.masks import MaskFacts, measure_masks
from tissueseg.inspection.registration import (
    RegistrationFacts,
    measure_registration,
    registration_oddities,
)
from tissueseg.store.tissues import TissueStore

Track = Callable[[Iterable[str]], Iterable[str]]
"""Wraps the tissue names, to show progress."""


class TissueFacts(NamedTuple):
    """What was measured of one tissue."""

    masks: MaskFacts
    brightfield: BrightfieldFacts | None
    registration: RegistrationFacts


class Inspection(NamedTuple):
    """A store, measured and judged."""

    tissues: dict[str, TissueFacts]
    findings: tuple[Finding, ...]  # warnings first
    warnings: Counter[str]  # tissue -> warnings that name it


def inspect_store(store: TissueStore, track: Track = iter) -> Iterator[Finding]:
    """Say what is wrong with a store, warnings first.

    Args:
        store: written by `tissueseg.prepare`; read by window.
        track: wraps the tissue names, to show progress.
    """
    yield from inspect_tissues(store, track).findings


def inspect_tissues(store: TissueStore, track: Track = iter) -> Inspection:
    """Measure every tissue of a store, and judge."""
    facts = {tissue: measure(store, tissue) for tissue in track(store.tissues)}
    oddities = [odd for tissue, found in facts.items() for odd in _odd(store, tissue, found)]
    masks = {tissue: found.masks for tissue, found in facts.items()}
    findings = (*cohort_findings(store, masks), *channel_findings(store), *group(oddities))
    warnings = Counter(odd.tissue for odd in oddities if odd.level == "warning")
    ranked = sorted(findings, key=lambda finding: finding.level != "warning")
    return Inspection(facts, tuple(ranked), warnings)


def measure(store: TissueStore, tissue: str) -> TissueFacts:
    """Read one tissue's masks once, and its images in places."""
    masks = measure_masks(store, tissue)
    brightfield = measure_brightfield(store, tissue) if "he" in store.images else None
    return TissueFacts(masks, brightfield, measure_registration(store, tissue, masks.grid))


def _odd(store: TissueStore, tissue: str, facts: TissueFacts) -> Iterator[Oddity]:
    if facts.brightfield is not None:
        yield from brightfield_oddities(tissue, facts.brightfield)
    yield from cell_oddities(tissue, facts.masks, store.mpp)
    yield from registration_oddities(store, tissue, facts.registration)
