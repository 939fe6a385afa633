"""Predicted cells as SpatialData, where the library is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from stores import CLASSES

from tissueseg.errors import StoreNotFoundError, TissueDataError
from tissueseg.instances.cell_table import CellSchema
from tissueseg.tables.label_image import LabelImage
from tissueseg.tables.prediction_spatialdata import write_prediction_spatialdata

sd = pytest.importorskip("spatialdata")

pytestmark = pytest.mark.filterwarnings("ignore")  # its libraries warn one another

TYPES = tuple((c.id, c.name, c.color) for c in CLASSES[1:])
SCHEMA = CellSchema("t1", 0.5, TYPES, channels=("DAPI", "HLA/DR"))


def predicted(folder: Path, ids: tuple[int, ...] = (3, 70_000)) -> np.ndarray:
    """Results of a tissue whose cells are squares of 6 px from (4, 4), one right of the other."""
    labels = np.zeros((40, 48), np.uint32)
    for i, id in enumerate(ids):
        labels[4:10, 4 + 8 * i : 10 + 8 * i] = id
    image = LabelImage.create(folder, (40, 48), 0.5, CLASSES)
    image.canvas[...] = labels
    image.finish(np.minimum(np.arange(70_001), 1))
    n = np.arange(len(ids), dtype=float)
    columns = {
        "id": np.array(ids, np.int64),
        "x_px": 7 + 8 * n,
        "y_px": np.full(len(ids), 7.0),
        "area_px": np.full(len(ids), 36, np.int32),
        "type": np.ones(len(ids), np.int32),
        "type_name": ["tumor"] * len(ids),
        "prob_t cell": n / 10,
        "prob_T CELL": n / 20,
        "mean_DAPI": 100 + n,
        "mean_HLA/DR": 200 + n,
        "median_HLA/DR": 300 + n,
    }
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * len(ids), "f4")), 2)
    parquet.write_table(pa.table(columns | {"embedding": vectors}), folder / "cells.parquet")
    return labels


def test_labels_circles_and_table_are_of_one_place(tmp_path: Path) -> None:
    labels = predicted(tmp_path)
    path = write_prediction_spatialdata(tmp_path, tmp_path / "t1.spatialdata.zarr", SCHEMA)
    data = sd.read_zarr(path)
    assert list(data.coordinate_systems) == ["t1"]
    assert sorted(data.labels) == ["t1_classes", "t1_instances"]
    np.testing.assert_array_equal(np.asarray(data["t1_instances"]), labels)
    np.testing.assert_array_equal(np.asarray(data["t1_classes"]), labels > 0)
    table = data["t1_cells"]
    centres = sd.get_centroids(data["t1_instances"], coordinate_system="t1").compute()
    wanted = centres.loc[table.obs["instance_id"], ["x", "y"]].to_numpy()
    np.testing.assert_allclose(table.obsm["spatial"], wanted)
    circles = sd.get_centroids(data["t1_circles"], coordinate_system="t1").compute()
    np.testing.assert_allclose(circles.loc[[3, 70_000]].to_numpy(), wanted)
    np.testing.assert_allclose(np.pi * data["t1_circles"].radius ** 2, 36)
    matched, _ = sd.match_element_to_table(data, "t1_instances", "t1_cells")
    assert list(matched) == ["t1_instances"]


def test_intensities_are_the_matrix_and_the_rest_describes_cells(tmp_path: Path) -> None:
    predicted(tmp_path)
    target = write_prediction_spatialdata(tmp_path, tmp_path / "t1.spatialdata.zarr", SCHEMA)
    table = sd.read_zarr(target)["t1_cells"]
    assert table.var_names.tolist() == ["DAPI", "HLA/DR"]
    np.testing.assert_array_equal(table.X, [[100, 200], [101, 201]])
    assert table.obs["instance_id"].tolist() == [3, 70_000]
    assert table.obs["type_name"].tolist() == ["tumor", "tumor"]
    assert list(table.uns["type_name_colors"]) == ["#ff0000", "#00ff00"]
    names = ["prob_t_cell", "prob_T_CELL_2", "median_HLA_DR"]  # as it takes names
    assert [n for n in table.obs.columns if n.startswith(("prob", "med"))] == names
    assert "embedding" not in table.obs


def test_a_tissue_without_cells_has_labels_alone(tmp_path: Path) -> None:
    predicted(tmp_path, ids=())
    target = write_prediction_spatialdata(tmp_path, tmp_path / "t1.spatialdata.zarr", SCHEMA)
    data: Any = sd.read_zarr(target)
    assert sorted(data.labels) == ["t1_classes", "t1_instances"]
    assert list(data.tables) == list(data.shapes) == []


def test_what_is_missing_or_taken_is_said(tmp_path: Path) -> None:
    target = tmp_path / "t1.spatialdata.zarr"
    with pytest.raises(StoreNotFoundError, match="no label image"):
        write_prediction_spatialdata(tmp_path, target, SCHEMA)
    predicted(tmp_path)
    (tmp_path / "cells.parquet").rename(tmp_path / "other")
    with pytest.raises(StoreNotFoundError, match="no table of cells"):
        write_prediction_spatialdata(tmp_path, target, SCHEMA)
    assert not target.exists()
    (tmp_path / "other").rename(tmp_path / "cells.parquet")
    write_prediction_spatialdata(tmp_path, target, SCHEMA)
    with pytest.raises(TissueDataError, match="exists already"):
        write_prediction_spatialdata(tmp_path, target, SCHEMA)
    with pytest.raises(TissueDataError, match="spatialdata takes names"):
        write_prediction_spatialdata(tmp_path, target, CellSchema("a b", 0.5, TYPES))
