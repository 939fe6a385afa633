"""Cells as AnnData, read back by anndata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from cells_made import ODD, PLAIN, SCHEMA, cells

from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.tables.anndata import AnnDataCells


def written(path: Path, schema: CellSchema, *parts: CellTable) -> Any:
    with AnnDataCells(path / "cells.h5ad", schema) as writer:
        for part in parts:
            writer.add(part)
    return anndata.read_h5ad(writer.path)


def joined(parts: list[CellTable], name: str) -> np.ndarray:
    return np.concatenate([part.columns[name] for part in parts])


@pytest.mark.parametrize("schema", [SCHEMA, ODD])
def test_intensities_are_x_and_layers(schema: CellSchema, tmp_path: Path) -> None:
    parts = [cells(5, schema), cells(0, schema), cells(4, schema, first=60)]
    found = written(tmp_path, schema, *parts)
    assert found.var_names.tolist() == list(schema.channels)
    assert found.obs_names.tolist() == [str(id) for id in joined(parts, "id")]
    assert found.X.dtype == np.float32
    kinds = {"mean": found.X} | dict(found.layers)
    assert set(kinds) == {"mean", "median", "ring_mean", "ring_median"}
    for kind, values in kinds.items():
        for i, channel in enumerate(schema.channels):
            np.testing.assert_array_equal(values[:, i], joined(parts, f"{kind}_{channel}"))


def test_other_columns_are_obs_and_places_and_embedding_obsm(tmp_path: Path) -> None:
    parts = [cells(5), cells(4, first=60)]
    found = written(tmp_path, SCHEMA, *parts)
    intensities = [
        f"{kind}_{c}"
        for kind in ("mean", "median", "ring_mean", "ring_median")
        for c in SCHEMA.channels
    ]
    assert list(found.obs) == [name for name in parts[0].columns if name not in intensities]
    for name in found.obs:
        np.testing.assert_array_equal(found.obs[name].to_numpy(), joined(parts, name))
    np.testing.assert_array_equal(found.obsm["spatial"][:, 1], joined(parts, "y_um"))
    embedding = np.concatenate([part.embedding for part in parts])
    np.testing.assert_array_equal(found.obsm["embedding"], embedding)
    assert found.uns["tissueseg"]["unit"] == "µm"
    assert found.uns["tissueseg"]["about"] == SCHEMA.about
    assert found.uns["tissueseg"]["mpp"] == 0.5


def test_types_have_colours_as_scanpy_looks_for_them(tmp_path: Path) -> None:
    found = written(tmp_path, SCHEMA, cells(8))
    assert list(found.obs["type_name"].cat.categories) == ["tumor", "immune", "other", "unknown"]
    assert list(found.uns["type_name_colors"]) == ["#ff0000", "#00ff7f", "#0a0b0c", "#808080"]
    only_known = written(tmp_path / "b", SCHEMA, cells(2))
    assert list(only_known.obs["type_name"].cat.categories) == ["tumor", "immune", "other"]
    assert len(only_known.uns["type_name_colors"]) == 3


def test_without_sp_and_scale_there_is_an_empty_x_and_places_in_pixels(tmp_path: Path) -> None:
    part = cells(4, PLAIN)
    found = written(tmp_path, PLAIN, part)
    assert found.shape == (4, 0)
    assert not found.layers
    assert list(found.obsm) == ["spatial"]
    np.testing.assert_array_equal(found.obsm["spatial"][:, 0], part.columns["x_px"])
    assert found.uns["tissueseg"]["unit"] == "px"
    assert "mpp" not in found.uns["tissueseg"]


def test_channels_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    part = cells(4)
    kept = {name: values for name, values in part.columns.items() if "DAPI" not in name}
    found = written(tmp_path, SCHEMA, replace(part, columns=kept))
    assert found.var_names.tolist() == ["CD3"]
    np.testing.assert_array_equal(found.X[:, 0], part.columns["mean_CD3"])


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN, ODD])
def test_a_tissue_without_cells_has_no_rows(schema: CellSchema, tmp_path: Path) -> None:
    for name, parts in (("none", []), ("empty", [cells(0, schema)])):
        found = written(tmp_path / name, schema, *parts)
        assert found.shape == (0, len(schema.channels))
        assert found.obsm["spatial"].shape == (0, 2)


def test_slashes_do_not_make_groups_of_the_file(tmp_path: Path) -> None:
    schema = CellSchema("t", 1.0, ((1, "T/NK", "#000000"),), ("a/b",), about={"a/b": "c/d"})
    found = written(tmp_path, schema, cells(3, schema))
    assert "prob_T∕NK" in found.obs
    assert found.var_names.tolist() == ["a/b"]
    assert found.obs["type_name"].iloc[0] == "T/NK"
    assert found.uns["tissueseg"]["about"] == {"a∕b": "c/d"}
