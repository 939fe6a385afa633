"""One tissue as an OME-Zarr for viewers: a folder that stands alone, with pyramids.

    t1.ome.zarr/he/{0, 1, …}   t1.ome.zarr/he/labels/{instances, classes}/{0, 1, …}
    t1.ome.zarr/sp/{0, 1, …}   t1.ome.zarr/sp/labels/…

Each image is an OME-NGFF 0.5 image of its own, with its labels below it: viewers open one image, and
look for labels there and nowhere else (`napari t1.ome.zarr/he`). So labels are held twice where there
are two images, which is little beside the pixels. NGFF 0.5 has a collection of several images only for
what bioformats2raw made, and advises against new ones. Chunks hold one channel, unlike the store's:
a viewer shows channels one at a time.

The first pixel's corner is the origin of every level, so no level has a translation.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from tissueseg.store import layout
from tissueseg.store.layout import windows
from tissueseg.store.tissues import TissueStore, stored_attributes
from tissueseg.tables.pyramid import (
    LARGEST_PX,
    Reduce,
    area_mean,
    every_second,
    fill_from,
    halved,
    level_count,
)
from tissueseg.tables.targets import check_target, chosen, complete

_FORMAT = "ngff"
_LABELS = {"instances": layout.INSTANCES, "classes": layout.CLASSES}


class _Plan(NamedTuple):
    """What the pyramids of one tissue share."""

    shape: tuple[int, int]  # px
    levels: int
    channels: int  # of the SP panel, which decides how large the store's shards are


def ngff_path(tissue: str, out: str | Path) -> Path:
    """Where `write_ngff` puts a tissue."""
    return Path(out) / f"{tissue}.ome.zarr"


def check_ngff(tissues: Sequence[str], out: str | Path, overwrite: bool) -> None:
    """Refuse paths that are taken, before the first tissue is written."""
    for tissue in tissues:
        check_target(ngff_path(tissue, out), overwrite, _is_export)


def write_ngff(store: TissueStore, tissue: str, out: str | Path, overwrite: bool = False) -> Path:
    """Write one tissue, window by window, as `<out>/<tissue>.ome.zarr`.

    Pyramids are halved until 512 px or less.

    Args:
        store: it comes from.
        tissue: its name.
        out: a folder, made if need be.
        overwrite: replace an earlier export of this kind, once the new one is complete.

    Returns:
        The path.

    Raises:
        ConfigError: unknown tissue.
        TissueDataError: the path is taken or cannot be written.
    """
    chosen(store, [tissue])
    entry = store.entry(tissue)
    shape = (entry.height, entry.width)
    plan = _Plan(shape, level_count(shape, LARGEST_PX), len(store.panel))
    target = ngff_path(tissue, out)
    with complete(target, overwrite, _is_export) as folder:
        root = zarr.open_group(folder, mode="w")
        origin = {"tissue": tissue, "patient": entry.patient, "digest": entry.digest}
        root.attrs[layout.ATTRIBUTE] = {"export": _FORMAT} | origin
        first, *others = store.images
        images = {kind: root.create_group(kind) for kind in store.images}
        for kind, image in images.items():
            image.attrs.update(_image_attributes(store, tissue, kind, plan.levels))
            _write_pyramid(image, store.path / tissue / kind, plan, area_mean)
        _write_labels(images[first], store, tissue, plan)
        for other in others:
            shutil.copytree(folder / first / "labels", folder / other / "labels")
    return target


def _image_attributes(store: TissueStore, tissue: str, kind: str, levels: int) -> dict[str, Any]:
    """Channel names, colours and windows as the store shows them."""
    ome: Any = zarr.open_group(store.path / tissue / kind, mode="r").attrs["ome"]
    shown = ome["omero"]["channels"]
    names, ends = [c["label"] for c in shown], [c["window"]["end"] for c in shown]
    return layout.image_metadata(kind, store.mpp, names, ends, levels)


def _write_labels(image: zarr.Group, store: TissueStore, tissue: str, plan: _Plan) -> None:
    labels = image.create_group("labels")
    labels.attrs["ome"] = {"version": layout.NGFF_VERSION, "labels": list(_LABELS)}
    for name, array in _LABELS.items():
        group = labels.create_group(name)
        classes = store.classes if name == "classes" else ()
        group.attrs.update(layout.label_metadata(name, store.mpp, "", classes, plan.levels))
        _write_pyramid(group, store.path / tissue / array, plan, every_second)


def _write_pyramid(group: zarr.Group, source: Path, plan: _Plan, reduce: Reduce) -> None:
    """Copy an array of the store, then halve it level by level."""
    stored = zarr.open_array(source / "0", mode="r")
    full = _create(group, 0, stored, plan.shape, plan)
    for y, x, height, width in windows(plan.shape, layout.shard_px(plan.channels, plan.shape)):
        part = (..., slice(y, y + height), slice(x, x + width))
        full[part] = np.asarray(stored[part])
    finer, shape = full, plan.shape
    for level in range(1, plan.levels):
        shape = halved(shape)
        coarser = _create(group, level, stored, shape, plan)
        fill_from(finer, coarser, layout.shard_px(plan.channels, shape), reduce)
        finer = coarser


def _create(
    group: zarr.Group, level: int, stored: zarr.Array, shape: tuple[int, int], plan: _Plan
) -> zarr.Array:
    leading = stored.shape[:-2]
    ones = (1,) * len(leading)
    return group.create_array(
        str(level),
        shape=(*leading, *shape),
        dtype=stored.dtype,
        chunks=(*ones, layout.CHUNK_PX, layout.CHUNK_PX),
        shards=(*ones, *layout.shard_px(plan.channels, shape)),
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
        dimension_names=("c", "y", "x")[-stored.ndim :],
    )


def _is_export(path: Path) -> bool:
    return stored_attributes(path).get("export") == _FORMAT
