"""The published folds of PanNuke (Gamper et al. 2020, https://arxiv.org/abs/2003.10778) as tissues.

A fold is `images.npy` (N, 256, 256, 3), `masks.npy` (N, 256, 256, 6: instance ids of five classes, then
background) and `types.npy` (N,), all beside each other in `fold1`, or as published, in
`Fold 1/images/fold1` and `Fold 1/masks/fold1`. Every image becomes a tissue, read from the file when
it is its turn: the files have several gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tissueseg.contracts import Channel, TissueClass
from tissueseg.errors import TissueDataError
from tissueseg.store.notices import Notices
from tissueseg.store.planes import Tissue
from tissueseg.store.reading.names import read_text_array
from tissueseg.store.reading.rasters import open_array
from tissueseg.store.sources.masked import require_folder, require_mpp

CLASSES = (
    TissueClass(0, "background", "#000000"),
    TissueClass(1, "neoplastic", "#e6194b"),
    TissueClass(2, "inflammatory", "#3cb44b"),
    TissueClass(3, "connective", "#4363d8"),
    TissueClass(4, "dead", "#ffe119"),
    TissueClass(5, "epithelial", "#f58231"),
)
"""By the order of the channels of `masks.npy`, background first."""

_PLANES = len(CLASSES)  # channels of masks.npy; the last is background
_ROUNDING = 1e-3  # what is left of whole numbers that went through floats


class Fold(NamedTuple):
    """The files of one fold, opened but not read."""

    name: str  # fold1
    files: Mapping[str, Path]  # images, masks, types
    images: np.ndarray  # (N, H, W, 3)
    masks: np.ndarray  # (N, H, W, 6)
    types: tuple[str, ...]  # of organ


class PanNukeSource:
    """Reads the images of the folds there are.

    Args:
        path: a folder with one or more folds somewhere inside.
        mpp: µm per pixel; the published images have 0.25.

    Raises:
        TissueDataError: no fold, or files that are missing or contradict each other.
    """

    def __init__(self, path: str | Path, mpp: float = 0.25) -> None:
        self.path = require_folder(path)
        self.mpp = require_mpp(mpp, "0.25")
        self.classes, self.images = CLASSES, ("he",)
        self.panel: tuple[Channel, ...] = ()
        self.moments: Mapping[str, Mapping[str, list[float]]] = MappingProxyType({})
        folds = [_open_fold(file) for file in sorted(self.path.rglob("images.npy"))]
        if not folds:
            raise TissueDataError(
                f"{path} holds no fold (images.npy in a folder fold1): mend path."
            )
        folds.sort(key=lambda fold: int(fold.name.removeprefix("fold")))
        self._folds = {fold.name: fold for fold in folds}
        if len(self._folds) < len(folds):
            places = [str(fold.files["images"]) for fold in folds]
            raise TissueDataError(
                f"{path} holds a fold twice: {', '.join(places)}. Keep one of each."
            )
        self._places = {
            f"{fold.name}_{i:04d}_{_safe(organ)}": (fold.name, i)
            for fold in self._folds.values()
            for i, organ in enumerate(fold.types)
        }
        self.tissues = tuple(self._places)
        self.notices = (
            "PanNuke names no patients: every image is its own, though several may be of one slide",
        )

    def scale(self, tissue: str) -> float | None:
        """µm per pixel, of every image alike."""
        return self.mpp

    def files(self, tissue: str) -> dict[str, Path]:
        """The files of its fold, which all its images share."""
        fold = self._folds[self._places[tissue][0]]
        return {f"{fold.name}/{file.name}": file for file in fold.files.values()}

    def open(self, tissue: str) -> Tissue:
        """Read one image and its masks."""
        name, position = self._places[tissue]
        fold, notices = self._folds[name], Notices()
        he = _to_rgb(tissue, fold.files["images"], fold.images[position], notices)
        masks = _to_ids(tissue, fold.files["masks"], fold.masks[position, ..., : _PLANES - 1])
        instances, classes = _flatten(masks, notices)
        notices.count("no instance at all", int(not instances.any()))
        return Tissue(instances, classes, he, split=name, notices=notices.found)


def _open_fold(images: Path) -> Fold:
    folder = images.parent
    match = re.fullmatch(r"fold[ _-]?(\d+)", folder.name, re.IGNORECASE)
    if match is None:
        raise TissueDataError(f"{images} is in no folder named like fold1: rename {folder}.")
    masks = folder / "masks.npy"
    if not masks.is_file():
        masks = folder.parent.parent / "masks" / folder.name / "masks.npy"
    types = folder / "types.npy"
    for file in (folder / "masks.npy" if not masks.is_file() else masks, types):
        if not file.is_file():
            raise TissueDataError(f"{file} is missing: add it beside {images}, or as published.")
    fold = Fold(
        f"fold{int(match[1])}",
        {"images": images, "masks": masks, "types": types},
        _open(images),
        _open(masks),
        read_text_array(types),
    )
    _check_shapes(fold)
    return fold


def _open(path: Path) -> np.ndarray:
    array = open_array(path)
    if array.dtype.kind not in "iuf":
        raise TissueDataError(f"{path} holds {array.dtype} values, wanted numbers.")
    return array


def _check_shapes(fold: Fold) -> None:
    images, masks = fold.images.shape, fold.masks.shape
    if len(images) != 4 or images[3] != 3 or masks != (*images[:3], _PLANES):
        raise TissueDataError(
            f"{fold.files['images']} has shape {images} and {fold.files['masks']} {masks}, wanted "
            f"(N, 256, 256, 3) and (N, 256, 256, {_PLANES}) of the same images."
        )
    if len(fold.types) != images[0]:
        raise TissueDataError(
            f"{fold.files['types']} names {len(fold.types)} images, but {fold.files['images']} has "
            f"{images[0]}: take both from one fold."
        )


def _safe(organ: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", organ).strip("-") or "unnamed"


def _to_rgb(tissue: str, path: Path, image: np.ndarray, notices: Notices) -> np.ndarray:
    """(3, H, W) uint8 of an image that holds 0 … 255, though perhaps as floats."""
    values = np.array(image)
    with np.errstate(invalid="ignore"):
        whole = np.rint(values)
        fractions = np.abs(values - whole) > _ROUNDING
    low, high = values.min(initial=0), values.max(initial=0)
    if not (low >= -_ROUNDING and high <= 255 + _ROUNDING):  # NaN, too
        raise TissueDataError(
            f"tissue {tissue}: {path} holds values {low:g} … {high:g}, wanted 0 … 255: convert it "
            "to 8-bit."
        )
    if fractions.any() and high <= 1:
        raise TissueDataError(
            f"tissue {tissue}: {path} holds fractions up to {high:g}, wanted 0 … 255: multiply it by 255."
        )
    notices.count("{n} values of H&E rounded to whole numbers", int(fractions.sum()))
    return np.ascontiguousarray(np.moveaxis(whole.astype(np.uint8), -1, 0))


def _to_ids(tissue: str, path: Path, masks: np.ndarray) -> np.ndarray:
    values = np.array(masks)
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.rint(values)).any():
        raise TissueDataError(f"tissue {tissue}: {path} holds ids that are no whole numbers ≥ 0.")
    return values.astype(np.int64)


def _flatten(masks: np.ndarray, notices: Notices) -> tuple[np.ndarray, np.ndarray]:
    """One instance image with ids of its own, and its classes, from one instance image per class.

    Args:
        masks: (H, W, 5) ids; one id may occur in several channels.
        notices: takes the number of pixels that several channels claim, where the last one wins.
    """
    instances = np.zeros(masks.shape[:2], np.int32)
    classes = np.zeros(masks.shape[:2], np.uint8)
    for channel in range(masks.shape[2]):
        claimed = masks[..., channel] > 0
        contested = int((claimed & (instances > 0)).sum())
        notices.count("{n} pixels of two classes took the later one", contested)
        _, places = np.unique(masks[..., channel][claimed], return_inverse=True)
        instances[claimed] = instances.max() + 1 + places
        classes[claimed] = channel + 1
    return instances, classes
