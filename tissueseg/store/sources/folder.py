"""A folder of image and mask files as a source of tissues, described by a short YAML.

The description, the ids and the presence of every file are checked when the source is made, before an
image is opened; then tissues are read one at a time. A description, with everything it may hold:

    mpp: 0.5                             # µm per pixel, or unknown
    images:                              # either or both; {id} is the tissue, folders may be part
      he: "{id}.he.jpg"                  # PNG, JPEG or TIFF, 8-bit RGB
      sp: "{id}.mif.ome.tif"             # TIFF, OME-TIFF, PNG, npy or npz
    masks:                               # PNG, TIFF, npy or npz; left out: tissues without labels
      instances: "{id}.nuclei.tif"
      classes: "{id}.classes.tif"        # a class image, or …
      types: {file: "{id}.csv", id: id, type: type, untyped: [unknown]}  # … a csv or Parquet table
                                         # (neither: all are of one class, nucleus)
      ignore: "{id}.ignore.tif"          # > 0: left out of losses and scores
    classes:                             # ids by position
      - background
      - tumor
      - {name: t_cell, color: "#3cb44b", types: [T_h, T_tox]}  # types: its names in the table
    channels:                            # by position, or CD3: P07766 … by name, or left out
      - {name: DAPI, uniprot: P68431, nuclear: true}
      - CD3                              # a name alone
      - null                             # a channel to leave out
    patient: "^(r[0-9]+)_"               # regular expression on the id; its group, or the match
    tissues: [r1_a, r1_b]                # only these; left out: all there are
    untyped: error                       # or ignore: instances without class take class 255
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tissueseg.contracts import IGNORE, Channel
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.checks import is_plain_name
from tissueseg.store.notices import Notices
from tissueseg.store.planes import Tissue
from tissueseg.store.reading.claims import compare_claims
from tissueseg.store.reading.rasters import (
    ALPHA_DROPPED,
    He,
    Raster,
    read_he,
    read_header,
    read_mask,
    read_sp,
)
from tissueseg.store.sizes import check_sizes
from tissueseg.store.sources.channels import note_stains
from tissueseg.store.sources.description import read_description
from tissueseg.store.sources.files import (
    fill,
    find_description,
    find_patient,
    match_ids,
    require_files,
)
from tissueseg.store.sources.masks import (
    check_not_classes,
    clear_ignored,
    read_types,
    settle_untyped,
    type_by_image,
    type_by_table,
)


class FolderSource:
    """Reads the tissues of a folder.

    Args:
        path: the folder.
        description: the YAML; None: `tissues.yaml` in the folder.

    Raises:
        ConfigError: a description that cannot be used, or a folder that is not there.
        TissueDataError: no tissue, or a file that is missing.
    """

    def __init__(self, path: str | Path, description: str | Path | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ConfigError(f"source.path={path} is not a folder.")
        self._described = find_description(self.path, description)
        self._about = read_description(self._described)
        self.notices = (
            []
            if self._about.instances
            else [f"{self._described.name} names no masks: tissues have no labels"]
        )
        self.moments: Mapping[str, Mapping[str, list[float]]] = MappingProxyType({})
        self.mpp, self.classes = self._about.mpp, self._about.classes
        self.images = tuple(self._about.images)
        self.tissues = self._find_tissues()
        patient = self._about.patient
        self._patients = {name: find_patient(patient, name, "tissue") for name in self.tissues}
        self._channels = self._describe_channels()
        self.panel = tuple(channel for channel in self._channels if channel)

    def scale(self, tissue: str) -> float | None:
        """µm per pixel, of every tissue alike."""
        return self.mpp

    def files(self, tissue: str) -> dict[str, Path]:
        """Every file of a tissue by its path in the folder, and what describes them."""
        files = (fill(pattern, tissue) for pattern in self._about.patterns)
        return {file: self.path / file for file in files} | {"description": self._described}

    def open(self, tissue: str) -> Tissue:
        """Read one tissue."""
        notices = Notices()
        he, (sp, header) = self._read_he(tissue), self._read_sp(tissue, notices)
        notices.count(ALPHA_DROPPED, int(he is not None and he.alpha))
        claims = {"H&E": he.mpp if he else None, "SP": header.mpp if header else None}
        compare_claims(claims, self.mpp, notices)
        pattern = self._about.instances
        masks = self._read_masks(tissue, pattern, notices) if pattern else (None, None)
        patient = self._patients[tissue]
        pixels = he.pixels if he else None
        return Tissue(*masks, pixels, sp, patient, notices=notices.found)

    def _find_tissues(self) -> tuple[str, ...]:
        """Ids of the first image pattern, once every other file is known to be there."""
        pattern = next(iter(self._about.images.values()))
        found = self._take(match_ids(self.path, pattern, self._about.patterns[1:]), pattern)
        files = ((f"tissue {t}", fill(p, t)) for t in found for p in self._about.patterns)
        hint = "Add it, mend the pattern, or list the complete tissues under `tissues`."
        require_files(self.path, files, hint)
        return found

    def _take(self, found: tuple[str, ...], pattern: str) -> tuple[str, ...]:
        wanted = self._about.tissues
        if unsafe := [t for t in wanted or () if not is_plain_name(t)]:
            raise ConfigError(
                f"{self._described}: tissues lists {unsafe[0]!r}, wanted ids: plain names without a path."
            )
        if not found:
            raise TissueDataError(f"no file in {self.path} fits {pattern!r}: mend path or pattern.")
        if strange := [tissue for tissue in wanted or () if tissue not in found]:
            raise TissueDataError(
                f"tissue {strange[0]}: {self.path / fill(pattern, strange[0])} is missing. Mend "
                f"`tissues`; there are {', '.join(found[:5])} …"
            )
        return found if wanted is None else wanted

    def _describe_channels(self) -> tuple[Channel | None, ...]:
        if "sp" not in self._about.images:
            return ()
        path = self._file(self._about.images["sp"], self.tissues[0])
        channels = self._about.channels.panel(read_header(path).names, str(path))
        self.notices += note_stains(channels, self._about.channels.stated)
        return channels

    def _read_he(self, tissue: str) -> He | None:
        if "he" not in self._about.images:
            return None
        return read_he(self._file(self._about.images["he"], tissue))

    def _read_sp(
        self, tissue: str, notices: Notices
    ) -> tuple[np.ndarray, Raster] | tuple[None, None]:
        if "sp" not in self._about.images:
            return None, None
        path = self._file(self._about.images["sp"], tissue)
        stack, raster = read_sp(path, len(self._channels))
        found = self._about.channels.panel(raster.names, str(path))
        if found != self._channels or stack.shape[0] != len(found):
            first = self._file(self._about.images["sp"], self.tissues[0])
            names = f" {list(raster.names)}" if raster.names else ""
            raise TissueDataError(
                f"tissue {tissue}: {path} has {stack.shape[0]} channels{names}, but the panel of "
                f"{first.name} is {[c.name if c else None for c in self._channels]}: all "
                "tissues need the same channels in the same order."
            )
        if stack.dtype != raster.data.dtype:
            kinds = f"{raster.data.dtype} to {stack.dtype}"
            notices.count(f"SP intensities converted from {kinds}")
        kept = [i for i, channel in enumerate(found) if channel]
        return stack if len(kept) == len(found) else stack[kept], raster

    def _read_masks(
        self, tissue: str, pattern: str, notices: Notices
    ) -> tuple[np.ndarray, np.ndarray]:
        path = self._file(pattern, tissue)
        instances = read_mask(path, "instances")
        check_not_classes(instances, path)
        if not instances.any():
            notices.count("no instance at all")
        classes = self._read_classes(tissue, instances, notices)
        ignored = None
        if self._about.ignore:
            ignored = self._read_ignored(tissue, instances)
            cleared = clear_ignored(instances, ignored)
            instances, ignored = cleared.instances, cleared.ignored
            message = "{n} instances ignored whole, covered by the ignore mask by half or more"
            notices.count(message, cleared.dropped)
            message = "{n} instances kept whole, covered by the ignore mask by less than half"
            notices.count(message, cleared.kept)
        typed_by = self._about.types.file if self._about.types else self._about.class_image
        where = f"tissue {tissue}: {self._file(typed_by or pattern, tissue)}"
        ignore = self._about.untyped == "ignore"
        classes = settle_untyped(where, instances, classes, ignore, notices)
        return instances, classes if ignored is None else np.where(ignored, IGNORE, classes)

    def _read_ignored(self, tissue: str, instances: np.ndarray) -> np.ndarray:
        return self._beside(tissue, str(self._about.ignore), "ignore", instances) > 0

    def _read_classes(self, tissue: str, instances: np.ndarray, notices: Notices) -> np.ndarray:
        if self._about.types:
            path = self._file(self._about.types.file, tissue)
            types = read_types(path, self._about.types, self._about.type_ids)
            absent = int((~np.isin(list(types), instances)).sum())
            notices.count("{n} rows of types without an instance", absent)
            return type_by_table(instances, types)
        if self._about.class_image:
            image = self._beside(tissue, self._about.class_image, "classes", instances)
            typed = type_by_image(instances, image, len(self.classes))
            message = "{n} instances of several classes took the most frequent one"
            notices.count(message, typed.changed)
            outside = int(((instances == 0) & (image > 0) & (image != IGNORE)).sum())
            notices.count("{n} pixels keep their class outside instances", outside)
            return typed.classes
        return (instances > 0).astype(np.uint8)

    def _beside(self, tissue: str, pattern: str, name: str, instances: np.ndarray) -> np.ndarray:
        """A mask that must lie on the instances, pixel by pixel."""
        path = self._file(pattern, tissue)
        mask = read_mask(path, name)
        check_sizes(
            f"tissue {tissue}", {"the instance mask": instances.shape, str(path): mask.shape}
        )
        return mask

    def _file(self, pattern: str, tissue: str) -> Path:
        return self.path / fill(pattern, tissue)
