"""Regions of whole slides: squares from the top left, or rectangles of a table; each is one tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.planes import Window, whole
from tissueseg.store.reading.tables import plain_id, read_table
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.runs import first_pixels
from tissueseg.store.sources.description import Section

_COUNTED_PX = 2048  # side of the windows in which cells are counted
_DIGITS = 5  # of a place in a name, at least
_PLACE = ("x", "y", "width", "height")


@dataclass(frozen=True)
class Rule:
    """The `regions` of a description."""

    size_px: int | None  # side of squares; None: there is a table
    table: str | None  # in the folder
    keep_edge: bool  # squares cut by the right or lower edge stay, smaller
    min_cells: int  # regions with fewer are left out


class Region(NamedTuple):
    """A part of a slide, px of full resolution."""

    tissue: str  # its name in the store
    slide: str
    window: Window


def parse_rule(top: Section) -> Rule | None:
    """What the YAML says of regions; None: slides are taken whole."""
    value = top.get("regions", dict, None)
    if value is None:
        return None
    section = Section(value, top.at("regions"), ("size_px", "edge", "min_cells", "table"))
    size, table = section.get("size_px", int, None), section.get("table", str, None)
    if (size is None) == (table is None):
        raise ConfigError(f"{section.where} gives {value!r}, wanted either `size_px` or `table`.")
    least = section.get("min_cells", int, 0)
    for key, number, lowest in (("size_px", size, 1), ("min_cells", least, 0)):
        if number is not None and number < lowest:
            raise ConfigError(f"{section.at(key)} is {number}, wanted at least {lowest}.")
    return Rule(size, table, section.choice("edge", ("keep", "drop")) == "keep", least)


def cut(folder: Path, sizes: Mapping[str, tuple[int, int]], rule: Rule | None) -> list[Region]:
    """All regions of some slides, those without cells too.

    Args:
        folder: where the table lies.
        sizes: slide -> height and width, px.
        rule: None: each slide is one region.

    Raises:
        TissueDataError: a table that names slides or pixels that are not there, or two regions alike.
    """
    if rule is None:
        return [Region(slide, slide, whole(size)) for slide, size in sizes.items()]
    if rule.table:
        return _read_regions(folder / rule.table, sizes)
    assert rule.size_px is not None
    return [
        Region(_name_place(slide, window, size), slide, window)
        for slide, size in sizes.items()
        for window in _squares(size, rule.size_px, rule.keep_edge)
    ]


def holds_cells(labels: TiffImage, window: Window, least: int) -> bool:
    """Whether a region holds at least so many instances; reads no further than needed."""
    found = np.empty(0, np.int64)
    for part in _squares(window[2:], _COUNTED_PX, keep_edge=True):
        moved = part._replace(y=part.y + window.y, x=part.x + window.x)
        found = np.union1d(found, first_pixels(labels.read(moved)[0])[0])
        if found.size >= least:
            return True
    return False


def _squares(size: Sequence[int], side: int, keep_edge: bool) -> list[Window]:
    """Squares of a plane in rows; the last of a row and column are cut, or left out."""
    height, width = size
    cut_off = 1 if keep_edge else side
    return [
        Window(y, x, min(side, height - y), min(side, width - x))
        for y in range(0, height - cut_off + 1, side)
        for x in range(0, width - cut_off + 1, side)
    ]


def _name_place(slide: str, window: Window, size: tuple[int, int]) -> str:
    digits = max(_DIGITS, len(str(max(size))))
    return f"{slide}_y{window.y:0{digits}}_x{window.x:0{digits}}"


def _read_regions(path: Path, sizes: Mapping[str, tuple[int, int]]) -> list[Region]:
    table = read_table(path, ("slide", "region", *_PLACE))
    places = zip(*(table.integers(name) for name in _PLACE), strict=True)
    regions: dict[str, Region] = {}
    slides, names = table.texts("slide"), table.texts("region")
    for row, (slide, name, place) in enumerate(zip(slides, names, places, strict=True)):
        where, (x, y, width, height) = table.where(row), place
        if slide not in sizes:
            listed = ", ".join(list(sizes)[:5])
            raise TissueDataError(f"{where}: there is no slide {slide!r}; there are {listed}.")
        high, wide = sizes[slide]
        inside = x >= 0 and y >= 0 and x + width <= wide and y + height <= high
        if not inside or width < 1 or height < 1:
            raise TissueDataError(
                f"{where}: region {name!r} is x {x} … {x + width}, y {y} … {y + height}, but slide "
                f"{slide} is {high} × {wide} px (height × width): mend the line."
            )
        tissue = f"{slide}_{plain_id(name, where)}"
        if tissue in regions:
            raise TissueDataError(f"{where}: {tissue} is the name of two regions: rename one.")
        regions[tissue] = Region(tissue, slide, Window(y, x, height, width))
    return list(regions.values())
