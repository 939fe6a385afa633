"""What the TIFFs of one slide must agree on before a pixel is read: sizes, colours, µm per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from statistics import median

import numpy as np

from tissueseg.errors import TissueDataError
from tissueseg.store.notices import Notices
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.sources.slides import IMAGES, SlideDescription

MPP_TOLERANCE = 0.02  # relative; headers round
_ONE_SCALE = 0.01  # relative difference of slides that are taken for one µm/px
_CROPPED = 0.01  # relative difference of sizes that no resolution explains
_SHOWN_AS = {"he": "H&E", "sp": "SP", "labels": "the label image"}


def check_slide(slide: str, tiffs: Mapping[str, TiffImage]) -> tuple[int, int]:
    """Height and width of a slide, px.

    Args:
        slide: its name.
        tiffs: labels, and he, sp or both.

    Raises:
        TissueDataError: sizes that differ, H&E that is not 8-bit RGB, labels that are no plane.
    """
    if he := tiffs.get("he"):
        _check_he(he)
    labels = tiffs["labels"]
    if labels.channels != 1:
        raise TissueDataError(
            f"{labels.path}: label image has {labels.channels} channels, wanted one integer per pixel: "
            "save it as a single-channel image."
        )
    shown = [(_SHOWN_AS[kind], tiffs[kind]) for kind in (*IMAGES, "labels") if kind in tiffs]
    for (first, one), (second, other) in pairwise(shown):
        if one.size != other.size:
            raise TissueDataError(f"slide {slide}: {_compare(first, one, second, other)}")
    return labels.size


def find_mpp(
    slide: str, tiffs: Mapping[str, TiffImage], about: SlideDescription, notices: Notices
) -> float | None:
    """µm per pixel of a slide: what the description states, else what its TIFFs say; None: unknown.

    Raises:
        TissueDataError: TIFFs that contradict each other, or say nothing, when nothing is stated.
    """
    claims = {kind: tiffs[kind].mpp for kind in IMAGES if kind in tiffs}
    said = {kind: mpp for kind, mpp in claims.items() if mpp}
    if about.mpp_stated:
        for kind, mpp in said.items():
            if about.mpp is None or abs(mpp / about.mpp - 1) > MPP_TOLERANCE:
                used = "unknown" if about.mpp is None else f"{about.mpp:g}"
                notices.count(f"{_SHOWN_AS[kind]} claims {mpp:g} µm/px, mpp={used} is used")
        return about.mpp
    if not said:
        files = " and ".join(tiffs[kind].path.name for kind in claims)
        raise TissueDataError(f"slide {slide}: {files} say no µm/px: give mpp, or mpp: unknown.")
    if max(said.values()) / min(said.values()) - 1 > MPP_TOLERANCE:
        listed = ", but ".join(f"{tiffs[k].path.name} {mpp:g}" for k, mpp in said.items())
        raise TissueDataError(
            f"slide {slide}: contradictory µm/px at equal size, {listed}: give mpp."
        )
    return next(iter(said.values()))


def common_mpp(scales: Mapping[str, float | None]) -> tuple[dict[str, float | None], list[str]]:
    """Settle slides that differ by rounding on one µm/px, and what to say of it."""
    known = [scale for scale in scales.values() if scale is not None]
    if len(known) < len(scales) or len(set(known)) == 1:
        return dict(scales), []
    apart = max(known) / min(known) - 1
    if apart > _ONE_SCALE:
        return dict(scales), []
    one = median(known)
    notice = f"µm/px of the slides differ by up to {apart:.2%}: {one:g} is used for all"
    return dict.fromkeys(scales, one), [notice]


def _check_he(image: TiffImage) -> None:
    if image.dtype != np.uint8:
        raise TissueDataError(
            f"{image.path}: H&E has {image.dtype} pixels, wanted 8-bit RGB: scale white to 255 and save "
            "as 8-bit."
        )
    if image.channels not in (3, 4):
        hint = "Is it the SP image?" if image.channels > 4 else "Save it in colour."
        raise TissueDataError(
            f"{image.path}: H&E has {image.channels} channels, wanted 3 (RGB). {hint}"
        )


def _compare(first: str, one: TiffImage, second: str, other: TiffImage) -> str:
    high, wide = (a / b for a, b in zip(one.size, other.size, strict=True))
    sizes = (
        f"{first} is {one.size[1]} × {one.size[0]} px (width × height), "
        f"{second} {other.size[1]} × {other.size[0]}"
    )
    if abs(wide - 1) < _CROPPED and abs(high - 1) < _CROPPED:
        return f"{sizes}: crop or pad them to one frame."
    if abs(wide / high - 1) < _CROPPED:
        larger = f"{wide:.2f} : 1" if wide > 1 else f"1 : {1 / wide:.2f}"
        return f"{sizes} ({larger}): export both at one resolution."
    return f"{sizes}: they do not show the same field. Register them to one frame."
