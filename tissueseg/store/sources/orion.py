"""Whole slides as a source of tissues: H&E, SP and label TIFFs that lie on each other, cut into regions.

Everything that headers and tables can tell is checked when the source is made; pixels are decoded only
when a region is read, window by window (`min_cells` alone looks at the labels before). The YAML is that
of image folders (`folder.py`), for TIFFs:

    mpp: 0.325                           # µm per pixel; left out: the TIFFs say it
    images:
      he: "{id}-registered.ome.tif"      # 8-bit RGB; TIFF, OME-TIFF or SVS, tiled
      sp: "{id}.ome.tif"
    masks:                               # left out: tissues without labels
      instances: "{id}.cells.ome.tif"    # a label image of the same size
      types: {file: "{id}.csv", id: CellID, type: phenotype, untyped: [Unknown]}
                                         # left out: all cells are of one class, nucleus
    classes: [background, tumor, {name: t_cell, types: [Th, Tc]}]
    channels: [DNA, CD3, null]           # or UniProt ids by name; left out: the OME-XML says it
    patient: "^(CRC[0-9]+)"              # left out: every slide is its own patient
    tissues: [CRC01, CRC02]              # only these slides
    untyped: ignore                      # or error: cells that the table leaves out
    regions: {size_px: 4096, edge: keep, min_cells: 50}
                                         # squares from the top left; edge: drop leaves cut ones out
                                         # or {table: regions.csv}: slide, region, x, y, width, height
                                         # left out: each slide is one tissue
    slides: slides.csv                   # in place of patterns: id, he, sp, labels, cells, patient,
                                         # split; what has no column is found by its pattern

The folder of ORION (https://doi.org/10.1038/s43018-023-00576-1) pairs H&E and SP by no pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from tissueseg.contracts import Channel
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.notices import Notices, gather, name_some
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.sources.channels import note_stains
from tissueseg.store.sources.masks import read_types
from tissueseg.store.sources.regions import Region, cut, holds_cells
from tissueseg.store.sources.slide_checks import check_slide, common_mpp, find_mpp
from tissueseg.store.sources.slide_region import CellClasses, SlideRegion
from tissueseg.store.sources.slides import IMAGES, Slide, find_slides, read_slides

_TIFFS = (*IMAGES, "labels")
_OPEN_SLIDES = 2  # whose files are kept open: regions of a slide come one after the other


class OrionSource:
    """Reads regions of whole slides.

    Args:
        path: the folder.
        description: the YAML; None: `slides.yaml` in the folder.

    Raises:
        ConfigError: a description that cannot be used, or a folder that is not there.
        TissueDataError: files that are missing, or whose headers or tables contradict each other.
    """

    def __init__(self, path: str | Path, description: str | Path | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ConfigError(f"source.path={path} is not a folder.")
        self._described = self.path / "slides.yaml" if description is None else Path(description)
        if not self._described.is_file():
            raise ConfigError(
                f"no description at {self._described}: write one (see tissueseg/store/sources/orion.py) "
                "and give it as source.description=FILE, or as slides.yaml in the folder."
            )
        self._about = read_slides(self._described)
        self._slides = {slide.name: slide for slide in find_slides(self.path, self._about)}
        self._image = lru_cache(len(_TIFFS) * _OPEN_SLIDES)(self._open_image)
        self._cells = lru_cache(_OPEN_SLIDES)(self._read_cells)
        self.classes = self._about.classes
        self.images = tuple(kind for kind in IMAGES if kind in self._first.files)
        self.moments: Mapping[str, Mapping[str, Sequence[float]]] = MappingProxyType({})
        labelled = "labels" in self._first.files
        self.notices = (
            [] if labelled else [f"{self._described.name} names no masks: tissues have no labels"]
        )
        self._channels: tuple[Channel | None, ...] = ()
        sizes = self._check_slides()
        self.panel = tuple(channel for channel in self._channels if channel)
        self._regions = self._find_regions(sizes)

    @property
    def tissues(self) -> tuple[str, ...]:
        """Names of all regions."""
        return tuple(self._regions)

    def scale(self, tissue: str) -> float | None:
        """µm per pixel of a region's slide."""
        return self._mpp[self._regions[tissue].slide]

    def files(self, tissue: str) -> dict[str, Path]:
        """Every file of a region's slide by its path in the folder, and what describes them."""
        rule = self._about.regions
        tables = (self._about.table, rule.table if rule else None)
        slide = self._slides[self._regions[tissue].slide]
        files = (*slide.files.values(), *(table for table in tables if table))
        return {file: self.path / file for file in files} | {"description": self._described}

    def open(self, tissue: str) -> SlideRegion:
        """One region, of which no pixel is read yet."""
        region = self._regions[tissue]
        slide = self._slides[region.slide]
        typed = any("cells" in s.files for s in self._slides.values())
        return SlideRegion(
            region,
            slide,
            self._open_tiffs(slide),
            [i for i, channel in enumerate(self._channels) if channel],
            self._cells(slide.files.get("cells")) if typed else None,
            self._about.untyped == "ignore",
        )

    @property
    def _first(self) -> Slide:
        return next(iter(self._slides.values()))

    def _open_image(self, kind: str, file: str) -> TiffImage:
        listed = self._about.channels.listed if kind == "sp" else None
        return TiffImage(self.path / file, len(listed) if listed else None)

    def _open_tiffs(self, slide: Slide) -> dict[str, TiffImage]:
        return {
            kind: self._image(kind, slide.files[kind]) for kind in _TIFFS if kind in slide.files
        }

    def _read_cells(self, file: str | None) -> CellClasses:
        if file is None:
            return CellClasses({})
        return CellClasses(read_types(self.path / file, self._about.types, self._about.type_ids))

    def _check_slides(self) -> dict[str, tuple[int, int]]:
        """Height and width of every slide, once all headers and tables agree."""
        notices: dict[str, Notices] = {name: Notices() for name in self._slides}
        sizes, scales = {}, {}
        for name, slide in self._slides.items():
            tiffs = self._open_tiffs(slide)
            sizes[name] = check_slide(name, tiffs)
            scales[name] = find_mpp(name, tiffs, self._about, notices[name])
            if "sp" in tiffs:
                self._check_panel(name, tiffs["sp"])
            if "cells" in slide.files:
                self._cells(slide.files["cells"])
        self.notices += note_stains(self._channels, self._about.channels.stated)
        self._mpp, said = common_mpp(scales)
        self.notices += [*said, *gather({name: found.found for name, found in notices.items()})]
        return sizes

    def _check_panel(self, slide: str, image: TiffImage) -> None:
        found = self._about.channels.panel(image.names, str(image.path))
        if len(found) != image.channels:
            whose = "names" if self._about.channels.listed is None else "is described with"
            raise TissueDataError(
                f"slide {slide}: {image.path} {whose} {len(found)} channels, but holds "
                f"{image.channels}: list `channels` in order, null for those to leave out."
            )
        self._channels = self._channels or found
        if found != self._channels:
            raise TissueDataError(
                f"slide {slide}: {image.path} has the channels {list(image.names or ())}, but the panel "
                f"of {self._first.files['sp']} is {[c.name if c else None for c in self._channels]}: "
                "all slides need the same channels in the same order."
            )

    def _find_regions(self, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Region]:
        rule = self._about.regions
        regions = cut(self.path, sizes, rule)
        least = rule.min_cells if rule else 0
        if least and "labels" not in self._first.files:
            raise ConfigError(
                f"{self._described}: regions.min_cells is {least}, but no masks say where cells lie: "
                "give masks.instances, or leave it out."
            )
        kept = [r for r in regions if not least or holds_cells(self._labels(r), r.window, least)]
        if left_out := len(regions) - len(kept):
            self.notices.append(
                f"{left_out} of {len(regions)} regions with fewer than {least} cells left out"
            )
        if bare := [slide for slide in sizes if slide not in {region.slide for region in kept}]:
            self.notices.append(f"no region of {name_some(bare)} is taken")
        found: dict[str, Region] = {}
        for region in kept:
            if region.tissue in found:
                raise TissueDataError(
                    f"{region.tissue} is the name of regions of the slides {found[region.tissue].slide} "
                    f"and {region.slide}: rename one."
                )
            found[region.tissue] = region
        if not found:
            raise TissueDataError(
                f"no region of {self.path} is left: choose smaller ones, edge: keep, or fewer min_cells."
            )
        return found

    def _labels(self, region: Region) -> TiffImage:
        return self._image("labels", self._slides[region.slide].files["labels"])
