"""What the TIFFs of one slide must agree on before a pixel is read: sizes, colours, µm per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from tissueseg.errors import TissueDataError
from tissueseg.store.notices import Notices
from tissueseg.store.reading.claims import MPP_TOLERANCE, compare_claims
from tissueseg.store.reading.rasters import check_he
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.sizes import check_sizes
from tissueseg.store.sources.slides import IMAGES, SlideDescription

_ONE_SCALE = 0.01  # relative difference of slides that are taken for one µm/px
_SHOWN_AS = {"he": "H&E", "sp": "SP", "labels": "the label image"}


def check_slide(slide: str, tiffs: Mapping[str, TiffImage]) -> tuple[int, int]:
    """Height and width of a slide, px.

    Args:
        slide: its name.
        tiffs: he, sp or both, and labels if it has any.

    Raises:
        TissueDataError: sizes that differ, H&E that is not 8-bit RGB, labels that are no plane.
    """
    if he := tiffs.get("he"):
        check_he(he.path, he.dtype, he.channels)
    labels = tiffs.get("labels")
    if labels and labels.channels != 1:
        raise TissueDataError(
            f"{labels.path}: label image has {labels.channels} channels, wanted one integer per pixel: "
            "save it as a single-channel image."
        )
    sizes = {_SHOWN_AS[kind]: tiffs[kind].size for kind in (*IMAGES, "labels") if kind in tiffs}
    check_sizes(f"slide {slide}", sizes)
    return next(iter(sizes.values()))


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
        compare_claims({_SHOWN_AS[kind]: mpp for kind, mpp in said.items()}, about.mpp, notices)
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
