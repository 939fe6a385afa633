"""Co-registered H&E and SP crops in the layout of a student study of ORION, as a source of tissues.

    tissue_annotations.csv                          tissue_id, he, cycif (1 or 0), patient_id, split
    he/images_resized/<tissue>.png                  RGB
    cycif/images_resized/<tissue>.npy               (C, H, W)
    cycif/channels.csv                              channel_name, in order
    cycif/gene_dict_<name>.csv                      name, protein_id (UniProt), in order
    cell_masks/segmentation/<tissue>.npy            ids of instances
    cell_masks/broad_cell_type/<tissue>.npy         ids of classes, 0 background
    cell_masks/labelencoder_broad_cell_type.npy     names of classes, by id

SP is read window by window; H&E (PNG knows no windows) and masks of one tissue are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tissueseg.contracts import IGNORE, Channel
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.notices import Notices
from tissueseg.store.planes import Window
from tissueseg.store.reading.rasters import (
    ALPHA_DROPPED,
    open_array,
    read_he,
    read_mask,
    storable,
)
from tissueseg.store.sizes import check_sizes, compare_sizes, same_field
from tissueseg.store.sources.description import UNKNOWN
from tissueseg.store.sources.files import require_files
from tissueseg.store.sources.masked import (
    MaskedTissue,
    Reader,
    cut,
    require_choice,
    require_folder,
    require_mpp,
)
from tissueseg.store.sources.masks import check_not_classes, settle_untyped, type_by_image
from tissueseg.store.sources.study_tables import ENCODER, read_annotations, read_classes, read_panel

KINDS = {"he": "he", "cycif": "sp"}
"""The study's names of modalities -> ours."""

_FILES = {
    "he": "he/images_resized/{}.png",
    "cycif": "cycif/images_resized/{}.npy",
    "instances": "cell_masks/segmentation/{}.npy",
    "classes": "cell_masks/broad_cell_type/{}.npy",
}


class StudySource:
    """Reads the tissues of a study.

    Args:
        path: the folder with `tissue_annotations.csv`.
        mpp: µm per pixel of the resized images, or `unknown`.
        name: which `gene_dict_<name>.csv`; None: no UniProt accessions.
        modalities: `he`, `cycif` or both; tissues that lack one are left out.
        classes: names by id, background first, in place of the label encoder's.
        untyped: `error`, or `ignore`: instances without class take class 255.
        resize_masks: whether masks of another size than the image are stretched (nearest pixel).

    Raises:
        ConfigError: options that cannot be used.
        TissueDataError: tables or files that are missing or contradict each other.
    """

    def __init__(
        self,
        path: str | Path,
        mpp: float | str,
        name: str | None = "orion",
        modalities: Sequence[str] = ("he", "cycif"),
        classes: Sequence[Any] | None = None,
        untyped: str = "error",
        resize_masks: bool = False,
    ) -> None:
        self.path = require_folder(path)
        self.mpp = None if mpp == UNKNOWN else require_mpp(mpp, "0.5 or unknown")
        self._ignore_untyped = require_choice("untyped", untyped, ("error", "ignore")) == "ignore"
        self._resize_masks = resize_masks
        self._kinds = _check_kinds(modalities)
        self.images = tuple(KINDS[kind] for kind in self._kinds)
        self.moments: Mapping[str, Mapping[str, list[float]]] = MappingProxyType({})
        self._rows, said = read_annotations(self.path / "tissue_annotations.csv", self._kinds)
        self.tissues = tuple(self._rows)
        self._check_files()
        self.panel: tuple[Channel, ...] = ()
        self._tables = ["tissue_annotations.csv"]  # read; when one changes, so does every tissue
        if "cycif" in self._kinds:
            self.panel, notices = read_panel(self.path / "cycif", name)
            said += notices
            proteins = [f"cycif/gene_dict_{name}.csv"] if name else []
            self._tables += ["cycif/channels.csv", *proteins]
        masks = [self._file("classes", tissue) for tissue in self.tissues]
        self.classes, notices = read_classes(self.path / "cell_masks", classes, masks)
        self._tables += [f"cell_masks/{ENCODER}"] if classes is None else []
        self.notices = (*said, *notices)

    def scale(self, tissue: str) -> float | None:
        """µm per pixel, of every tissue alike."""
        return self.mpp

    def files(self, tissue: str) -> dict[str, Path]:
        """Images and masks of a tissue and the tables of all, by their paths in the study."""
        names = [*self._own_files(tissue), *self._tables]
        return {name: self.path / name for name in names}

    def open(self, tissue: str) -> MaskedTissue:
        """Open the SP image of a tissue, and read its H&E and masks."""
        notices = Notices()
        he = self._read_he(tissue, notices) if "he" in self._kinds else None
        sp = self._open_sp(tissue) if "cycif" in self._kinds else None
        images = {"the H&E image": he, "the SP image": sp}
        sizes = {what: image.shape[1:] for what, image in images.items() if image is not None}
        check_sizes(f"tissue {tissue}", sizes)
        shape = next(iter(sizes.values()))
        instances, classes = self._read_masks(tissue, shape, notices)
        row = self._rows[tissue]
        return MaskedTissue(
            instances,
            classes,
            None if he is None else partial(_slice, he),
            None if sp is None else self._sp_reader(tissue, sp, notices),
            row.patient,
            row.split,
            notices=notices.found,
        )

    def _own_files(self, tissue: str) -> list[str]:
        return [_FILES[what].format(tissue) for what in (*self._kinds, "instances", "classes")]

    def _file(self, what: str, tissue: str) -> Path:
        return self.path / _FILES[what].format(tissue)

    def _check_files(self) -> None:
        files = ((f"tissue {t}", name) for t in self.tissues for name in self._own_files(t))
        hint = "Add it, or set the tissue's columns in tissue_annotations.csv to 0."
        require_files(self.path, files, hint)

    def _read_he(self, tissue: str, notices: Notices) -> np.ndarray:
        image = read_he(self._file("he", tissue))
        notices.count(ALPHA_DROPPED, int(image.alpha))
        return image.pixels

    def _open_sp(self, tissue: str) -> np.ndarray:
        path = self._file("cycif", tissue)
        image = open_array(path)
        if image.ndim != 3 or image.shape[0] != len(self.panel):
            last = image.ndim == 3 and image.shape[-1] == len(self.panel)
            hint = "move its last axis to the front" if last else "mend channels.csv or the image"
            raise TissueDataError(
                f"tissue {tissue}: {path} has shape {image.shape}, but channels.csv names "
                f"{len(self.panel)}: wanted ({len(self.panel)}, height, width): {hint}."
            )
        return image

    def _sp_reader(self, tissue: str, image: np.ndarray, notices: Notices) -> Reader:
        dtype = storable(image.dtype, self._file("cycif", tissue))
        if dtype != image.dtype:
            notices.count(f"SP intensities converted from {image.dtype} to {dtype}")
        return partial(_slice, image, dtype=dtype)

    def _read_masks(
        self, tissue: str, shape: tuple[int, ...], notices: Notices
    ) -> tuple[np.ndarray, np.ndarray]:
        instances, classes = (
            self._fit(tissue, self._file(what, tissue), shape, notices)
            for what in ("instances", "classes")
        )
        path = self._file("instances", tissue)
        check_not_classes(instances, path)
        notices.count("no instance at all", int(not instances.any()))
        self._check_class_ids(tissue, classes)
        typed = type_by_image(instances, classes, len(self.classes))
        message = "{n} instances of several classes took the most frequent one"
        notices.count(message, typed.changed)
        outside = int(((instances == 0) & (classes > 0) & (classes != IGNORE)).sum())
        notices.count("{n} pixels keep their class outside instances", outside)
        where = f"tissue {tissue}: {path} and {self._file('classes', tissue)}"
        settled = settle_untyped(where, instances, typed.classes, self._ignore_untyped, notices)
        return instances, settled

    def _check_class_ids(self, tissue: str, classes: np.ndarray) -> None:
        found = np.unique(classes)
        strange = found[((found < 0) | (found >= len(self.classes))) & (found != IGNORE)]
        if strange.size:
            raise TissueDataError(
                f"tissue {tissue}: {self._file('classes', tissue)} holds class ids "
                f"{strange[:5].tolist()}, but there are {len(self.classes)} classes, 0 … "
                f"{len(self.classes) - 1}: give source.classes=[background, …]."
            )

    def _fit(self, tissue: str, path: Path, shape: tuple[int, ...], notices: Notices) -> np.ndarray:
        """A mask of the image's size, stretched to it if that was allowed."""
        mask = read_mask(path, "mask")
        if mask.shape == shape:
            return mask
        alike = same_field(mask.shape, shape)
        if not self._resize_masks or not alike:
            said = compare_sizes(str(path), mask.shape, "the image", shape)
            hint = " Or set source.resize_masks=true to stretch it." if alike else ""
            raise TissueDataError(f"tissue {tissue}: {said}{hint}")
        sizes = f"from {mask.shape[0]} × {mask.shape[1]} to {shape[0]} × {shape[1]} px"
        notices.count(f"masks stretched (nearest pixel) {sizes}")
        rows, columns = (
            ((np.arange(wanted) + 0.5) * found / wanted).astype(np.int64)
            for wanted, found in zip(shape, mask.shape, strict=True)
        )
        return mask[rows][:, columns]


def _check_kinds(modalities: Sequence[str]) -> tuple[str, ...]:
    given = [modalities] if isinstance(modalities, str) else list(modalities)
    if not given or set(given) - set(KINDS):
        raise ConfigError(f"source.modalities={given}: choose {' and '.join(KINDS)}, or one.")
    return tuple(kind for kind in KINDS if kind in given)


def _slice(image: np.ndarray, window: Window, dtype: np.dtype | None = None) -> np.ndarray:
    return np.array(image[(slice(None), *cut(window))], dtype)
