"""Whether H&E, SP and masks of a tissue lie on each other, measured where it has the most nuclei."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tissueseg.inspection.fields import NucleusGrid
from tissueseg.inspection.findings import Oddity
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.inspection.shifts import (
    Scale,
    Shift,
    agree,
    displacement,
    haematoxylin,
    scale_of,
    spectrum,
)
from tissueseg.instances.boundary import instance_boundary
from tissueseg.store.layout import CHUNK_PX, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.statistics import QUANTILES, clip_statistics
from tissueseg.store.tissues import TissueStore

FIELDS = 4
FIELD_PX = 1024
LIMIT_UM = 2.0
LIMIT_PX = 4.0  # where the scale is not known

NAMES = {"he": "H&E", "sp": "SP", "masks": "masks"}


class RegistrationFacts(NamedTuple):
    """Shifts of a tissue in µm, px where the scale is not known; None: could not be told."""

    fields: int  # that were compared
    images: Shift | None  # H&E against SP
    masks: Shift | None  # masks against `reference`
    reference: str  # `sp` where nuclear channels show something, else `he`; empty: neither


def measure_registration(pixels: TissuePixels, grid: NucleusGrid) -> RegistrationFacts:
    """Compare H&E, nuclear SP and masks in the fields with the most nuclei."""
    scale, shifts = scale_of(pixels.store.mpp), defaultdict(list)
    fields = grid.densest(FIELDS, FIELD_PX)
    for field in fields:
        for pair, shift in _compare(pixels, field, scale):
            shifts[pair].append(shift)
    reference = next((kind for kind in ("sp", "he") if ("masks", kind) in shifts), "")
    images, masks = shifts["he", "sp"], shifts["masks", reference]
    return RegistrationFacts(len(fields), agree(images), agree(masks), reference)


def registration_oddities(
    store: TissueStore, tissue: str, facts: RegistrationFacts
) -> Iterator[Oddity]:
    """Check the shifts of one tissue."""
    if not facts.fields:
        return
    both = {"he", "sp"} <= set(store.images) and bool(nuclear_channels(store))
    if both:
        again = "register the images again, or leave the tissue out of runs that use both"
        yield from _judge(store, tissue, "H&E against SP", facts.images, again)
    if facts.reference:
        what = f"masks against {NAMES[facts.reference]}"
        again = "were masks drawn on another image, cropped or resampled?"
        yield from _judge(store, tissue, what, facts.masks, again)


def nuclear_channels(store: TissueStore) -> list[int]:
    """Positions of the panel's nuclear channels."""
    return [i for i, channel in enumerate(store.panel) if channel.nuclear]


def _judge(
    store: TissueStore, tissue: str, pair: str, shift: Shift | None, again: str
) -> Iterator[Oddity]:
    unit, limit = ("px", LIMIT_PX) if store.mpp is None else ("µm", LIMIT_UM)
    if shift is None:
        yield Oddity(
            tissue,
            "notice",
            "registration",
            f"{pair}: shift that could not be told",
            "no clear match of nuclei",
            "it may be large, or nuclei too few or too faint: look at the contact sheet",
            0.0,
        )
    elif shift.length > limit:
        yield Oddity(
            tissue,
            "warning",
            "registration",
            f"{pair}: shift of more than {limit:g} {unit}",
            f"{shift.length:.1f} {unit} (down {shift.dy:.1f}, right {shift.dx:.1f})",
            again,
            shift.length,
        )


def _compare(
    pixels: TissuePixels, field: Window, scale: Scale
) -> Iterator[tuple[tuple[str, str], Shift]]:
    """Shifts of one field, by what was compared."""
    found = {}
    if "he" in pixels.store.images:
        found["he"] = spectrum(haematoxylin(pixels.read("he", field)), scale)
    if channels := nuclear_channels(pixels.store):
        found["sp"] = spectrum(_nuclear(pixels, field, channels), scale)
    labels = pixels.read(INSTANCES, field)
    # without the rims, touching nuclei are as many bright discs as they are in the images
    found["masks"] = spectrum((labels > 0) & ~instance_boundary(labels), scale)
    for pair in (("he", "sp"), ("masks", "sp"), ("masks", "he")):
        first, second = (found.get(kind) for kind in pair)
        if first is not None and second is not None:
            yield pair, displacement(first, second, scale)


def _nuclear(pixels: TissuePixels, field: Window, channels: Sequence[int]) -> np.ndarray:
    """Mean of the nuclear channels, each `log1p` below its clip and scaled to 1; (H, W)."""
    stored = pixels.attributes["statistics"]
    found = {i: clip_statistics(stored[i], QUANTILES[0]) for i in channels}
    image = np.zeros((field.height, field.width), np.float32)
    for top in range(0, field.height, CHUNK_PX):  # in strips: panels are deep
        height = min(CHUNK_PX, field.height - top)
        strip = pixels.read("sp", Window(field.y + top, field.x, height, field.width))
        for i, clip in ((i, f.clip) for i, f in found.items() if f.usable):
            scaled = np.log1p(np.minimum(strip[i].astype(np.float32), clip)) / np.log1p(clip)
            image[top : top + height] += scaled / len(found)
    return image
