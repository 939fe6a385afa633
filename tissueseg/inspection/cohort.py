"""What only shows when tissues are compared: repeated images, leaks between sides, missing classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from tissueseg.inspection.findings import Finding
from tissueseg.inspection.masks import MaskFacts
from tissueseg.inspection.registration import nuclear_channels
from tissueseg.store.notices import name_some
from tissueseg.store.tissues import TissueEntry, TissueStore

_SHOWN = 3
_PLANES = {"he": "H&E image", "sp": "SP image", "instances": "instance mask"}


def cohort_findings(store: TissueStore, masks: Mapping[str, MaskFacts]) -> Iterator[Finding]:
    """Check a store as a whole.

    Args:
        store: to look at.
        masks: tissue -> facts of its masks.
    """
    yield from _repeated(store, masks)
    yield from _leaks(store)
    yield from _patients(store)
    yield from _classes(store, masks)
    if {"he", "sp"} <= set(store.images) and not nuclear_channels(store):
        yield Finding(
            "notice",
            "registration",
            (),
            "H&E and SP could not be laid on each other: no channel of the panel is nuclear; say "
            "`nuclear: true` of a DNA stain",
        )


def _repeated(store: TissueStore, masks: Mapping[str, MaskFacts]) -> Iterator[Finding]:
    """Planes that several tissues share, byte for byte; masks without a cell are alike by nature."""
    said: set[tuple[str, ...]] = set()
    for plane, what in _PLANES.items():
        for names in _alike(store, plane):
            if plane == "instances":
                names = tuple(name for name in names if masks[name].instances)
            if len(names) < 2 or names in said:
                continue
            said.add(names)
            patients = {store.entry(name).patient for name in names}
            leak = (
                f" of {len(patients)} patients, so that training could see what a test scores"
                if len(patients) > 1
                else ""
            )
            yield Finding(
                "warning",
                "repeated tissue",
                names,
                f"one {what} in {name_some(names)}{leak}: keep one of them, or mend the files' names",
            )


def _alike(store: TissueStore, plane: str) -> list[tuple[str, ...]]:
    """Groups of tissues with one digest of a plane."""
    groups: dict[str, list[str]] = defaultdict(list)
    for tissue in store.tissues:
        if digest := store.attributes(tissue).get("digests", {}).get(plane):
            groups[digest].append(tissue)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def _leaks(store: TissueStore) -> Iterator[Finding]:
    """Patients on several sides of the split that the source states."""
    sides: dict[str, set[str]] = defaultdict(set)
    for tissue in store.tissues:
        entry = store.entry(tissue)
        if entry.split is not None:
            sides[entry.patient].add(entry.split)
    leaked = {patient: sorted(found) for patient, found in sides.items() if len(found) > 1}
    if leaked:
        tissues = tuple(t for t in store.tissues if _on_a_side(store.entry(t), leaked))
        shown = [f"{p} ({', '.join(found)})" for p, found in list(leaked.items())[:_SHOWN]]
        more = f" and {len(leaked) - _SHOWN} more" if len(leaked) > _SHOWN else ""
        yield Finding(
            "warning",
            "split",
            tissues,
            f"{len(leaked)} of {len(sides)} patients lie on several sides of the stored split: "
            f"{', '.join(shown)}{more}; wanted each on one: split by patient instead",
        )


def _on_a_side(entry: TissueEntry, patients: Collection[str]) -> bool:
    return entry.split is not None and entry.patient in patients


def _patients(store: TissueStore) -> Iterator[Finding]:
    """Every tissue its own patient: true of some cohorts, forgotten in others."""
    entries = [store.entry(tissue) for tissue in store.tissues]
    if len(entries) > 1 and all(entry.patient == entry.name for entry in entries):
        yield Finding(
            "notice",
            "patients",
            (),
            f"each of the {len(entries)} tissues is its own patient: where several come from one, give "
            "`patient`, or tissues of one patient end up on two sides of the split",
        )


def _classes(store: TissueStore, masks: Mapping[str, MaskFacts]) -> Iterator[Finding]:
    """Classes that no cell has, and those that cannot be both learnt and tested."""
    masks = {tissue: facts for tissue, facts in masks.items() if store.labelled(tissue)}
    if not masks:
        return
    holders: dict[int, set[str]] = {c.id: set() for c in store.classes if c.id}
    for tissue, facts in masks.items():
        for kind, count in enumerate(facts.per_class):
            if kind and count:
                holders[kind].add(store.entry(tissue).patient)
    patients = {store.entry(tissue).patient for tissue in masks}
    names = {c.id: c.name for c in store.classes}
    pixels = store.class_pixels(store.tissues)
    missing = [kind for kind, found in holders.items() if not found]
    if nowhere := [names[kind] for kind in missing if not pixels[kind]]:
        yield Finding(
            "warning",
            "classes",
            (),
            f"no cell of class {', '.join(nowhere)} in any tissue: wanted some of every class; take it "
            "out of the class table, or check the ids of the masks",
        )
    if regions := [names[kind] for kind in missing if pixels[kind]]:
        yield Finding(
            "notice",
            "classes",
            (),
            f"class {', '.join(regions)} has pixels but no cell in any tissue: intended for regions, "
            "else check that both masks come from the same segmentation",
        )
    rare = [f"{names[kind]} ({next(iter(f))})" for kind, f in holders.items() if len(f) == 1]
    if rare and len(patients) > 1:
        yield Finding(
            "notice",
            "classes",
            (),
            f"in one patient only: class {', '.join(rare)}; no split by patient can both train on it and "
            "test it: merge it with another, or add patients",
        )
