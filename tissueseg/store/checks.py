"""The border of the tissue store: what is wrong with a tissue is said here, before it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tissueseg.contracts import IGNORE, Channel, TissueClass
from tissueseg.errors import TissueDataError
from tissueseg.store.planes import LazyTissue, Planes, Tissue
from tissueseg.store.sizes import check_sizes

_SHOWN = 5
_LONGEST_NAME = 200  # bytes; file systems take 255, and a note's name is longer
HIGHEST_ID = 2**31 - 1  # instances are stored as int32


def check_classes(classes: Sequence[TissueClass]) -> None:
    """Refuse class tables that are not 0 … n − 1, background first, each name once."""
    ids = [c.id for c in classes]
    names = [c.name for c in classes]
    if ids != list(range(len(ids))) or len(ids) < 2 or len(ids) > IGNORE:
        raise TissueDataError(
            f"class ids are {ids}, wanted 0 (background), 1, 2, … up to {IGNORE - 1}: renumber them."
        )
    if len(set(names)) != len(names):
        raise TissueDataError(f"class names are not unique: {names}. Rename or merge them.")
    if wrong := [c.color for c in classes if not re.fullmatch("#[0-9a-fA-F]{6}", c.color)]:
        raise TissueDataError(f"class colours are {wrong}, wanted '#rrggbb'.")


def is_plain_name(name: str) -> bool:
    """Whether a tissue may be called so: nothing that leads to another folder, or cannot be shown."""
    unsafe = set(name) & set("/\\\0") or name.startswith((".", "_")) or not name.isprintable()
    return bool(name) and not unsafe and len(name.encode()) <= _LONGEST_NAME


def check_tissue(name: str, tissue: LazyTissue, images: Sequence[str]) -> None:
    """Refuse a tissue that has not the store's images, or whose parts have different sizes.

    Raises:
        TissueDataError: one line with tissue, part, what it got and what to do.
    """
    if tissue.images != tuple(images):
        raise TissueDataError(
            f"tissue {name} has images {list(tissue.images)}, but the store holds {list(images)} of "
            "every tissue: add what is missing or make a store of its own."
        )
    if isinstance(tissue, Tissue):
        _check_sizes(name, tissue)


def check_planes(
    name: str, planes: Planes, classes: Sequence[TissueClass], panel: Sequence[Channel]
) -> None:
    """Refuse pixels of a window that no store takes, or that contradict each other.

    Raises:
        TissueDataError: one line with tissue, part, what it got and what to do.
    """
    if planes.he is not None:
        _check_he(name, planes.he)
    if planes.sp is not None:
        _check_sp(name, planes.sp, panel)
    _check_sizes(name, planes)
    if planes.instances is None and planes.classes is None:
        return  # a tissue without labels
    instances, kinds = _both_masks(name, planes)
    _check_masks(name, instances, kinds)
    _check_class_ids(name, kinds, len(classes))
    _check_typed(name, instances, kinds)


def _check_he(name: str, he: np.ndarray) -> None:
    if he.ndim != 3 or he.shape[0] != 3 or he.dtype != np.uint8:
        raise TissueDataError(
            f"tissue {name}: H&E has shape {he.shape} and type {he.dtype}, wanted (3, height, width) "
            "uint8 RGB: convert it to 8-bit RGB."
        )


def _check_sp(name: str, sp: np.ndarray, panel: Sequence[Channel]) -> None:
    if sp.ndim != 3 or sp.shape[0] != len(panel):
        raise TissueDataError(
            f"tissue {name}: SP image has shape {sp.shape}, but the panel names {len(panel)} channels: "
            f"wanted ({len(panel)}, height, width). Mend the image or the channel list."
        )
    if sp.dtype.kind == "f" and not np.isfinite(sp).all():
        where = [c.name for c, plane in zip(panel, sp, strict=True) if not np.isfinite(plane).all()]
        raise TissueDataError(
            f"tissue {name}: SP channels {', '.join(where[:_SHOWN])} hold NaN or infinity: replace them "
            "(0 for missing pixels) and prepare again."
        )
    if sp.dtype.kind in "fi" and sp.min(initial=0) < 0:
        where = [c.name for c, plane in zip(panel, sp, strict=True) if plane.min() < 0]
        raise TissueDataError(
            f"tissue {name}: SP channels {', '.join(where[:_SHOWN])} hold negative values (lowest "
            f"{sp.min():g}): intensities must be ≥ 0. Clip or shift them."
        )
    if sp.dtype not in (np.uint8, np.uint16, np.float32):
        raise TissueDataError(
            f"tissue {name}: SP image has type {sp.dtype}, wanted uint8, uint16 or float32."
        )


def _check_sizes(name: str, planes: Planes | Tissue) -> None:
    """Refuse planes that do not lie on each other, pixel by pixel."""
    images = {"the H&E image": planes.he, "the SP image": planes.sp}
    masks = {"the instance mask": planes.instances, "the class mask": planes.classes}
    sizes = {what: plane.shape[-2:] for what, plane in images.items() if plane is not None}
    sizes |= {what: plane.shape for what, plane in masks.items() if plane is not None}
    check_sizes(f"tissue {name}", sizes)


def _both_masks(name: str, planes: Planes) -> tuple[np.ndarray, np.ndarray]:
    if planes.instances is None or planes.classes is None:
        there, lacking = ("instance", "class") if planes.classes is None else ("class", "instance")
        raise TissueDataError(
            f"tissue {name} has {there} masks, but no {lacking} masks: give both, or neither."
        )
    return planes.instances, planes.classes


def _check_masks(name: str, instances: np.ndarray, classes: np.ndarray) -> None:
    for what, plane in (("instance mask", instances), ("class mask", classes)):
        if plane.dtype.kind not in "iub":
            raise TissueDataError(f"tissue {name}: {what} has type {plane.dtype}, wanted integers.")
    low, high = instances.min(initial=0), instances.max(initial=0)
    if low < 0 or high > HIGHEST_ID:
        raise TissueDataError(
            f"tissue {name}: instance ids are {low} … {high}, wanted 0 (background) to {HIGHEST_ID}: "
            "relabel them 1, 2, …"
        )


def _check_class_ids(name: str, classes: np.ndarray, n_classes: int) -> None:
    found = np.flatnonzero(_count(classes)) if classes.dtype == np.uint8 else np.unique(classes)
    unknown = found[((found < 0) | (found >= n_classes)) & (found != IGNORE)]
    if unknown.size:
        raise TissueDataError(
            f"tissue {name}: class mask holds id {unknown[:_SHOWN].tolist()}, but the class table has "
            f"0 … {n_classes - 1} (and {IGNORE} for ignored): extend the table or mend the mask."
        )


def _check_typed(name: str, instances: np.ndarray, classes: np.ndarray) -> None:
    untyped = np.unique(instances[(instances > 0) & (classes == 0)])
    if untyped.size:
        raise untyped_error(f"tissue {name}", untyped)


def untyped_error(where: str, ids: np.ndarray) -> TissueDataError:
    """The error of instances that have no class, though nobody said to ignore them."""
    return TissueDataError(
        f"{where}: {ids.size} instances without class, such as {ids[:_SHOWN].tolist()}: give them a "
        f"class, or class {IGNORE}, by which they count as cells only (`untyped: ignore` in the YAML of "
        "the source, source.untyped=ignore where it has none)."
    )


def _count(classes: np.ndarray) -> np.ndarray:
    return np.bincount(classes.ravel(), minlength=256)
