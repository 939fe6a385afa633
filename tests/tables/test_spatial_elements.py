"""What SpatialData exports share, as far as it goes without the library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.instances.cell_table import CellSchema
from tissueseg.tables.prediction_spatialdata import write_prediction_spatialdata
from tissueseg.tables.spatial_elements import check_names, is_spatialdata


def test_without_the_library_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(ConfigError, match=r"pip install 'tissueseg\[spatial\]'") as caught:
        write_prediction_spatialdata(tmp_path, tmp_path / "x.zarr", CellSchema("t", 0.5, ()))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_names_are_plain_and_differ_in_more_than_case() -> None:
    check_names(["core_1", "core-2", "a.b", "é"])
    for names in (["core 1"], ["A", "a"], ["a/b"]):
        with pytest.raises(TissueDataError, match="spatialdata takes names"):
            check_names(names)


def test_other_folders_are_no_spatialdata(tmp_path: Path) -> None:
    assert not is_spatialdata(tmp_path)
    assert not is_spatialdata(tmp_path / "nothing")
