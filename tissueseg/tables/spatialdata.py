"""A tissue store as a SpatialData object: images and labels read where they lie, a table of cells.

Every tissue has a coordinate system of its own name, in µm (in pixels where the store knows no scale).
Of tissue `t` there are images `t_he`, `t_sp`, labels `t_instances`, `t_classes` and the table `t_cells`,
whose rows annotate `t_instances`. As everywhere in spatialdata, the centre of the first pixel is at 0.5.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import zarr

from tissueseg.contracts import IGNORE
from tissueseg.store import layout
from tissueseg.store.tissues import TissueStore
from tissueseg.tables.cells import Cells, measure_cells
from tissueseg.tables.spatial_elements import (
    annotating,
    check_names,
    is_spatialdata,
    lazy,
    library,
    place,
)
from tissueseg.tables.targets import chosen, complete

_LABELS = {"instances": layout.INSTANCES, "classes": layout.CLASSES}


def spatialdata_path(store: TissueStore, out: str | Path) -> Path:
    """Where `write_spatialdata` puts a store."""
    return Path(out) / f"{store.path.stem}.spatialdata.zarr"


def spatial_view(store: TissueStore, tissues: Sequence[str] | None = None) -> Any:
    """A `spatialdata.SpatialData` of a store; pixels are read when they are asked for.

    Args:
        store: it looks at, and must stay where it is.
        tissues: some of its tissues; None: all.

    Returns:
        The object. Only the tables are in memory.

    Raises:
        ConfigError: spatialdata is not installed, or a tissue is unknown.
        TissueDataError: a tissue has a name that spatialdata cannot hold.
    """
    sd = library()
    elements: dict[str, Any] = {}
    wanted = chosen(store, tissues)
    check_names(wanted)
    for tissue in wanted:
        elements |= dict(_rasters(sd, store, tissue))
        cells = measure_cells(store, tissue)
        if cells.ids.size:  # a table must annotate something
            elements[f"{tissue}_cells"] = _table(sd, store, tissue, cells)
    return sd.SpatialData.init_from_elements(elements)


def write_spatialdata(
    store: TissueStore,
    out: str | Path,
    tissues: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `spatial_view` as `<out>/<store>.spatialdata.zarr`.

    Args:
        store: it comes from.
        out: a folder, made if need be.
        tissues: some of its tissues; None: all.
        overwrite: replace an earlier one, once the new one is complete.

    Returns:
        The path.

    Raises:
        ConfigError: see `spatial_view`.
        TissueDataError: the path is taken or cannot be written, or see `spatial_view`.
    """
    library()
    target = spatialdata_path(store, out)
    with complete(target, overwrite, is_spatialdata) as folder, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of its libraries to one another; nobody here can act on them
        spatial_view(store, tissues).write(folder)
    return target


def _rasters(sd: ModuleType, store: TissueStore, tissue: str) -> Iterator[tuple[str, Any]]:
    where = place(sd, tissue, store.mpp)
    names = {"he": ["red", "green", "blue"], "sp": [channel.name for channel in store.panel]}
    for kind in store.images:
        pixels = lazy(_level(store.path / tissue / kind))
        yield (
            f"{tissue}_{kind}",
            sd.models.Image2DModel.parse(
                pixels, dims=("c", "y", "x"), c_coords=names[kind], transformations=where
            ),
        )
    for kind, array in _LABELS.items():
        pixels = lazy(_level(store.path / tissue / array))
        labels = sd.models.Labels2DModel.parse(pixels, dims=("y", "x"), transformations=where)
        yield f"{tissue}_{kind}", labels


def _level(group: Path) -> zarr.Array:
    return zarr.open_array(group / "0", mode="r")


def _table(sd: ModuleType, store: TissueStore, tissue: str, cells: Cells) -> Any:
    """A row per cell; no variables, for what is measured of them is the user's choice."""
    import pandas as pd  # pyright: ignore[reportMissingImports]  # comes with spatialdata

    names = [c.name for c in store.classes[1:]]
    codes = np.where(cells.classes == IGNORE, -1, cells.classes - 1)  # -1: not known
    unit = "px" if store.mpp is None else "um2"
    pixel = store.mpp or 1.0
    rows = pd.DataFrame(
        {
            "class": pd.Categorical.from_codes(codes, names),
            f"area_{unit}": cells.area_px * pixel**2,
        },
        index=pd.Index([f"{tissue}_{i}" for i in cells.ids]),
    )
    centre = (cells.centroid_px[:, ::-1] + 0.5) * pixel  # x and y, as scverse has it
    colors = {"class_colors": [c.color for c in store.classes[1:]]}
    return annotating(sd, f"{tissue}_instances", cells.ids, rows, centre, uns=colors)
