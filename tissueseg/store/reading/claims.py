"""What a TIFF says of its pixels: names of its channels, and µm per pixel; and whether that is so.

Every program writes them elsewhere: OME-XML, Aperio's description, ImageJ's, or the resolution tags of
the format itself. What cannot be true of cells (a placeholder, the 72 dpi of a screen) counts as unsaid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import tifffile

from tissueseg.errors import TissueDataError
from tissueseg.store.notices import Notices

FINEST_MPP = 0.01
COARSEST_MPP = 20.0  # µm/px at which no cell is left to see: a value above is in other units
MPP_TOLERANCE = 0.02  # relative; headers round

_SQUARE = 0.01  # relative difference of the two sides of a pixel that rounding explains

_MICROMETRES = {"m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4}
_MICROMETRES |= {"in": 25400.0, "inch": 25400.0, "thou": 25.4}
_MICROMETRES |= dict.fromkeys(("µm", "\u03bcm", "um", "micron", "microns", "\\u00B5m"), 1.0)
_MICROMETRES |= dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1.0)


class Claims(NamedTuple):
    """What a file says of itself."""

    names: tuple[str, ...] | None = None  # of its channels, in order
    mpp: float | None = None  # µm per pixel of the largest image


def read_claims(file: tifffile.TiffFile) -> Claims:
    """What an open TIFF says of its first image.

    Raises:
        TissueDataError: its pixels are not square.
    """
    path = Path(file.filehandle.path)
    image = _ome_image(file)
    sizes = (_square(path, *sides) for sides in _pixel_sizes(file, image))
    mpp = next((size for size in sizes if size), None)
    if image is not None:
        return Claims(_names([c.get("Name") for c in image.findall("{*}Pixels/{*}Channel")]), mpp)
    return Claims(_names((file.imagej_metadata or {}).get("Labels", [])), mpp)


def compare_claims(claims: Mapping[str, float | None], mpp: float | None, notices: Notices) -> None:
    """Note images of one tissue that claim another scale than the one used, or than each other.

    Args:
        claims: image -> µm per pixel that its file claims.
        mpp: µm per pixel, as described; None: described as unknown.
        notices: takes what was found.
    """
    said = {image: claim for image, claim in claims.items() if claim}
    used = "unknown" if mpp is None else f"{mpp:g}"
    other = {
        image: claim
        for image, claim in said.items()
        if mpp is None or abs(claim / mpp - 1) > MPP_TOLERANCE
    }
    for image, claim in other.items():
        notices.count(f"{image} claims {claim:g} µm/px, mpp={used} is used")
    if said and not other and max(said.values()) / min(said.values()) - 1 > MPP_TOLERANCE:
        listed = " and ".join(f"{image} {claim:g}" for image, claim in said.items())
        notices.count(f"claims of µm/px differ ({listed}), mpp={used} is used")


def _ome_image(file: tifffile.TiffFile) -> ElementTree.Element | None:
    if not file.ome_metadata:
        return None
    # tifffile has parsed the same text already, and expat limits how far entities expand
    root = ElementTree.fromstring(file.ome_metadata)  # noqa: S314
    return root.find("{*}Image")


def _names(names: Sequence[str | None]) -> tuple[str, ...] | None:
    return tuple(str(name) for name in names) if names and all(names) else None


def _pixel_sizes(
    file: tifffile.TiffFile, image: ElementTree.Element | None
) -> Iterator[tuple[float | None, float | None]]:
    """Width and height of a pixel in µm by every convention, the most explicit first."""
    pixels = None if image is None else image.find("{*}Pixels")
    if pixels is not None:
        yield _ome_size(pixels, "X"), _ome_size(pixels, "Y")
    page = file.pages.first
    if file.is_svs and (found := re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", page.description)):
        yield _micrometres(found[1], "µm"), None
    unit = str((file.imagej_metadata or {}).get("unit", ""))
    if page.tags.valueof("ResolutionUnit") == tifffile.RESUNIT.CENTIMETER:
        unit = unit or "cm"
    yield _tag_size(page, "XResolution", unit), _tag_size(page, "YResolution", unit)


def _ome_size(pixels: ElementTree.Element, side: str) -> float | None:
    unit = pixels.get(f"PhysicalSize{side}Unit", "µm")
    return _micrometres(pixels.get(f"PhysicalSize{side}"), unit)


def _tag_size(page: tifffile.TiffPage, tag: str, unit: str) -> float | None:
    pixels, length = page.tags.valueof(tag, (0, 0))
    return _micrometres(length / pixels, unit) if pixels else None


def _micrometres(size: str | float | None, unit: str) -> float | None:
    """A length in µm; None when it is not the size of a pixel that shows cells."""
    try:
        length = float(size or 0) * _MICROMETRES.get(unit, 0.0)
    except ValueError:
        return None
    return length if FINEST_MPP <= length <= COARSEST_MPP else None


def _square(path: Path, width: float | None, height: float | None) -> float | None:
    if width and height and abs(width / height - 1) > _SQUARE:
        raise TissueDataError(
            f"{path} claims pixels of {height:g} × {width:g} µm (height × width), wanted squares: "
            "resample it, or mend its header if that is wrong."
        )
    return width or height
