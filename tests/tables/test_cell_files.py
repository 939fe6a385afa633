"""All formats at once: the same cells in each, read back by other libraries; names and extras checked."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import anndata
import pytest
from cells_made import ODD, PLAIN, SCHEMA, cells
from pyarrow import parquet

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.tables import cell_files
from tissueseg.tables.cell_files import FORMATS, CellFiles, check_formats


def fill(files: CellFiles, *parts: CellTable) -> None:
    with files:
        for part in parts:
            files.add(part)


def written(folder: Path, schema: CellSchema, *parts: CellTable) -> dict[str, Path]:
    files = CellFiles(folder, schema, list(FORMATS))
    fill(files, *parts)
    return dict(zip(FORMATS, files.paths, strict=True))


def ids_of(paths: dict[str, Path]) -> dict[str, list[int]]:
    features = json.loads(paths["geojson"].read_text(encoding="utf-8"))["features"]
    with paths["csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "csv": [int(row["id"]) for row in rows],
        "parquet": parquet.read_table(paths["parquet"])["id"].to_pylist(),
        "geojson": [int(feature["properties"]["name"]) for feature in features],
        "geoparquet": parquet.read_table(paths["geoparquet"])["id"].to_pylist(),
        "anndata": anndata.read_h5ad(paths["anndata"]).obs["id"].tolist(),
    }


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN, ODD], ids=["both", "only H&E", "odd names"])
@pytest.mark.parametrize("counts", [(), (0,), (0, 5, 0, 0, 7), (1,)])
def test_every_format_has_the_same_cells(
    schema: CellSchema, counts: tuple[int, ...], tmp_path: Path
) -> None:
    parts = [cells(n, schema, first=1 + 100 * i) for i, n in enumerate(counts)]
    paths = written(tmp_path / "a" / "b", schema, *parts)
    assert sorted(paths.values()) == sorted((tmp_path / "a" / "b").iterdir())
    expected = [id for part in parts for id in part.columns["id"].tolist()]
    assert ids_of(paths) == dict.fromkeys(FORMATS, expected)


def test_an_error_leaves_no_file_of_any_format(tmp_path: Path) -> None:
    files = CellFiles(tmp_path / "t", SCHEMA, list(FORMATS))
    parts = [cells(4), replace(cells(4, first=50), outlines=None)]
    with pytest.raises(TissueDataError, match="lacks outlines"):
        fill(files, *parts)
    assert list(tmp_path.iterdir()) == []


def test_one_taken_path_stops_all_formats_and_stays(tmp_path: Path) -> None:
    (tmp_path / "cells.parquet").write_text("old")
    with (
        pytest.raises(TissueDataError, match=r"cells\.parquet exists already"),
        CellFiles(tmp_path, SCHEMA, list(FORMATS)),
    ):
        raise AssertionError("entered")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.parquet"]


def test_formats_are_known_by_name_and_counted_once() -> None:
    assert check_formats(["csv", "anndata", "csv"]) == ("csv", "anndata")
    assert len({kind.file_name for kind in FORMATS.values()}) == len(FORMATS)
    with pytest.raises(
        ConfigError, match=r"\['shapefile'\] unknown. Choose from \['csv'"
    ) as refusal:
        check_formats(["csv", "shapefile"])
    assert "\n" not in str(refusal.value)


def test_a_missing_extra_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_files, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'tissueseg\[anndata\]'"):
        CellFiles(tmp_path / "t", SCHEMA, ["csv", "anndata"])
    assert list(tmp_path.iterdir()) == []
    assert check_formats(["csv", "parquet"]) == ("csv", "parquet")
