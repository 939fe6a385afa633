"""Cells counted window by window: against pixels counted all at once, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stores import random_tissue, write_store

from tissueseg.contracts import IGNORE
from tissueseg.store import layout
from tissueseg.store.tissues import TissueStore
from tissueseg.tables.cells import measure_cells


def stored(path: Path, instances: np.ndarray, classes: np.ndarray) -> TissueStore:
    tissue = random_tissue(*instances.shape, instances=instances, classes=classes)
    return write_store(path / "s.zarr", {"a": tissue})


def test_cells_across_windows_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SHARD_PX", layout.CHUNK_PX)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :600]
    ids = (1 + y // 70 * 9 + x // 70) * 1_000_003  # sparse, and some lie in two or four windows
    ids[rng.random(ids.shape) < 0.3] = 0  # ragged, not convex
    classes = np.where(ids > 0, rng.integers(1, 3, ids.shape), 0)
    cells = measure_cells(stored(tmp_path, ids, classes), "a")
    np.testing.assert_array_equal(cells.ids, np.unique(ids[ids > 0]))
    for i, found in enumerate(cells.ids):
        inside = ids == found
        assert cells.area_px[i] == inside.sum()
        np.testing.assert_allclose(cells.centroid_px[i], np.argwhere(inside).mean(axis=0))
        counts = np.bincount(classes[inside])
        assert cells.classes[i] == counts.argmax()


def test_cell_of_several_classes_has_that_of_most_pixels(tmp_path: Path) -> None:
    instances = np.array([[5, 5, 5, 0], [3, 3, 9, 9]])
    classes = np.array([[1, 2, 2, 0], [2, 1, IGNORE, IGNORE]])
    cells = measure_cells(stored(tmp_path, instances, classes), "a")
    assert cells.ids.tolist() == [3, 5, 9]
    assert cells.classes.tolist() == [1, 2, IGNORE]  # 3 is a tie, and takes the lower
    assert cells.area_px.tolist() == [2, 3, 2]
    assert cells.centroid_px.tolist() == [[1, 0.5], [0, 1], [1, 2.5]]


def test_highest_id_and_last_pixel_fit(tmp_path: Path) -> None:
    instances = np.zeros((10, 12), np.int64)
    instances[9, 11] = 2**31 - 1
    cells = measure_cells(stored(tmp_path, instances, (instances > 0).astype(int)), "a")
    assert cells.ids.tolist() == [2**31 - 1]
    assert cells.centroid_px.tolist() == [[9, 11]]


def test_tissue_without_cells_has_no_rows(tmp_path: Path) -> None:
    nothing = np.zeros((10, 12), int)
    cells = measure_cells(stored(tmp_path, nothing, nothing), "a")
    assert [len(part) for part in cells] == [0, 0, 0, 0]
    assert cells.centroid_px.shape == (0, 2)
