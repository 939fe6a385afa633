"""Maps go through files of regions, and come back for any box."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.cells.map_files import MapFiles
from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Box


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    return np.random.default_rng(0).random((3, 50, 70), np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, whole: np.ndarray) -> MapFiles:
    files = MapFiles(tmp_path_factory.mktemp("maps"), region=16)
    for y in range(0, 50, 16):
        for x in range(0, 70, 16):
            box = Box(y, x, min(16, 50 - y), min(16, 70 - x))
            files.put(box, whole[(..., *box.slices)])
    return files


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_box_is_put_together_again(
    files: MapFiles, whole: np.ndarray, data: st.DataObject
) -> None:
    y, x = data.draw(st.integers(0, 49)), data.draw(st.integers(0, 69))
    box = Box(y, x, data.draw(st.integers(1, 50 - y)), data.draw(st.integers(1, 70 - x)))
    read = pickle.loads(pickle.dumps(files)).read(box)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, whole[(..., *box.slices)].astype(np.float16))


def test_a_region_that_is_forgotten_is_gone(tmp_path: Path) -> None:
    files = MapFiles(tmp_path, region=8)
    files.put(Box(8, 0, 8, 8), np.zeros((1, 8, 8)))
    files.forget(Box(8, 0, 8, 8))
    files.forget(Box(8, 0, 8, 8))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_nothing_is_said_in_one_line(tmp_path: Path) -> None:
    files = MapFiles(tmp_path / "nowhere", region=8)
    with pytest.raises(TissueDataError, match="cannot keep the maps of a region"):
        files.put(Box(0, 0, 8, 8), np.zeros((1, 8, 8)))
