"""The cells of a predicted tissue as SpatialData, in a coordinate system of the tissue's name.

Of tissue `t` there are labels `t_instances` and `t_classes`, circles `t_circles` as large as the cells,
and the table `t_cells`, whose rows annotate `t_instances`. Labels are copied block by block.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tissueseg.errors import StoreNotFoundError
from tissueseg.instances.cell_table import CellSchema
from tissueseg.tables.label_image import LabelLevels, read_labels
from tissueseg.tables.spatial_elements import (
    annotating,
    check_names,
    is_spatialdata,
    lazy,
    library,
    place,
)
from tissueseg.tables.targets import complete


def write_prediction_spatialdata(
    folder: str | Path, target: str | Path, schema: CellSchema
) -> Path:
    """Write the cells of a predicted tissue as SpatialData.

    Args:
        folder: of the tissue's results, with a finished `labels.ome.zarr` and `cells.parquet`.
        target: path of the SpatialData, such as `<folder>/t1.spatialdata.zarr`.
        schema: of the cells; `mean_<channel>` of its channels become the table's variables.

    Returns:
        The target.

    Raises:
        ConfigError: spatialdata is not installed.
        StoreNotFoundError: the folder holds no such results.
        TissueDataError: the target is taken or cannot be written, the results are not finished, or the
            tissue has a name that spatialdata cannot hold.
    """
    sd = library()
    check_names([schema.tissue])
    labels = read_labels(folder)
    with complete(Path(target), False, is_spatialdata) as hidden, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its libraries to one another
        elements = dict(_predicted_labels(sd, labels, schema))
        rows = _read_cells(Path(folder) / "cells.parquet")
        if len(rows):
            elements |= _predicted_cells(sd, rows, schema)
        sd.SpatialData.init_from_elements(elements).write(hidden)
    return Path(target)


def _predicted_labels(
    sd: ModuleType, labels: LabelLevels, schema: CellSchema
) -> Iterator[tuple[str, Any]]:
    where = place(sd, schema.tissue, schema.mpp)
    for kind, levels in (("instances", labels.instances), ("classes", labels.classes)):
        yield (
            f"{schema.tissue}_{kind}",
            sd.models.Labels2DModel.parse(lazy(levels[0]), dims=("y", "x"), transformations=where),
        )


def _read_cells(path: Path) -> Any:
    """What has one value a cell, as a data frame; outlines and embeddings stay where they are."""
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        raise StoreNotFoundError(f"no table of cells at {path}: predict the tissue with parquet.")
    plain = [
        f.name
        for f in parquet.read_schema(path)
        if not pa.types.is_nested(f.type) and not pa.types.is_binary(f.type)
    ]
    return parquet.read_table(path, columns=plain).to_pandas()


def _predicted_cells(sd: ModuleType, rows: Any, schema: CellSchema) -> dict[str, Any]:
    """The table, and a circle of its area for every cell."""
    import pandas as pd  # pyright: ignore[reportMissingImports]  # comes with spatialdata

    pixel, region = schema.mpp or 1.0, f"{schema.tissue}_instances"
    centre = rows[["x_px", "y_px"]].to_numpy(np.float64)
    means = [f"mean_{name}" for name in schema.channels if f"mean_{name}" in rows]
    index = [f"{schema.tissue}_{i}" for i in rows["id"]]
    said = rows.drop(columns=["id", *means]).set_axis(index)
    said.columns = _plain(said.columns)
    if "type_name" in said:
        names = [name for _, name, _ in schema.types]
        said["type_name"] = pd.Categorical(said["type_name"], names)
    table: dict[str, Any] = {"uns": {"type_name_colors": [color for _, _, color in schema.types]}}
    if means:
        variables = pd.DataFrame({"channel": [name.removeprefix("mean_") for name in means]})
        table |= {"X": rows[means].to_numpy(np.float32), "var": variables.set_index("channel")}
    circles = sd.models.ShapesModel.parse(
        centre,
        geometry=0,
        radius=np.sqrt(rows["area_px"].to_numpy(np.float64) / np.pi),
        index=rows["id"].to_numpy(),
        transformations=place(sd, schema.tissue, schema.mpp),
    )
    return {
        f"{schema.tissue}_circles": circles,
        f"{schema.tissue}_cells": annotating(
            sd, region, rows["id"].to_numpy(), said, centre * pixel, **table
        ),
    }


def _plain(names: Sequence[str]) -> list[str]:
    """Names of columns as spatialdata takes them: no signs, and no two that differ in case alone."""
    taken: set[str] = set()
    made: list[str] = []
    for name in names:
        stem = "".join(c if c.isalnum() or c in "_-." else "_" for c in name)
        numbered = (f"{stem}_{i}" if i > 1 else stem for i in count(1))
        made.append(next(n for n in numbered if n.casefold() not in taken))
        taken.add(made[-1].casefold())
    return made
