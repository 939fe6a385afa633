"""One row a tissue of what was measured, in plain types."""

from __future__ import annotations

from typing import Any

from tissueseg.inspection.masks import diameter
from tissueseg.inspection.overview import Inspection, TissueFacts
from tissueseg.inspection.shifts import Shift
from tissueseg.store.tissues import TissueStore

Row = dict[str, Any]


def summary_rows(store: TissueStore, inspection: Inspection) -> list[Row]:
    """One row a tissue, the same keys in each; None: not known."""
    return [
        _row(store, tissue, facts, inspection.warnings[tissue])
        for tissue, facts in inspection.tissues.items()
    ]


def _row(store: TissueStore, tissue: str, facts: TissueFacts, warnings: int) -> Row:
    entry, masks, unit = store.entry(tissue), facts.masks, store.mpp or 1.0
    across = round(unit * diameter(masks.median_px), 2) if masks.instances else None
    images, against = facts.registration.images, facts.registration.masks
    labelled = store.labelled(tissue)
    counts = {
        f"cells_{c.name}": n if labelled else None
        for c, n in zip(store.classes, masks.per_class, strict=True)
        if c.id
    }
    return {
        "tissue": tissue,
        "patient": entry.patient,
        "split": entry.split or "",
        "height_px": entry.height,
        "width_px": entry.width,
        "unit": "px" if store.mpp is None else "µm",
        "cells": masks.instances if labelled else None,
        "classes": sum(bool(count) for count in counts.values()) if labelled else None,
        "median_diameter": across,
        **_shift("he_sp", images),
        **_shift("mask", against),
        "mask_reference": facts.registration.reference,
        "warnings": warnings,
        **counts,
        "cells_unknown": masks.unknown if labelled else None,
    }


def _shift(name: str, shift: Shift | None) -> Row:
    length, down, right = (shift.length, shift.dy, shift.dx) if shift else (None, None, None)
    values = {"shift": length, "shift_down": down, "shift_right": right}
    return {f"{name}_{k}": None if v is None else round(v, 2) for k, v in values.items()}
