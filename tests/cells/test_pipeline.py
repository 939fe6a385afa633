"""Cells of a tissue are the same in whatever blocks and by however many workers they are found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nuclei_made import made_nuclei

from tissueseg.cells.block_work import BlockWork
from tissueseg.cells.map_files import MapFiles
from tissueseg.cells.map_layout import MapLayout
from tissueseg.cells.pipeline import CellCounts, CellPipeline
from tissueseg.cells.workers import worker_pool
from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.instances.hv import encode_hv
from tissueseg.instances.hv_decoder import HvDecoder
from tissueseg.instances.maps import InstanceDecoder, Maps

TYPES = ((1, "tumor", "#ff0000"), (2, "immune", "#00ff00"))
LAYOUT = MapLayout.of(("foreground", "hv", "classes"), 3)
SCHEMA = CellSchema("t", 0.5, TYPES, embedding_width=4)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return made_nuclei(600, 0.5, "dense")[:330, :410]


@pytest.fixture(scope="module")
def planes(truth: np.ndarray) -> np.ndarray:
    """Perfect maps: even cells are tumor, odd ones immune."""
    classes = np.stack([truth == 0, (truth > 0) & (truth % 2 == 0), truth % 2 == 1])
    maps = [(truth > 0)[None], encode_hv(truth), classes]
    return np.concatenate([part.astype(np.float32) for part in maps])


class Found:
    """What a pipeline handed on."""

    def __init__(self) -> None:
        self.parts: list[CellTable] = []
        self.labels = np.zeros((0, 0), np.uint32)
        self.counts = CellCounts()

    def column(self, name: str) -> np.ndarray:
        return np.concatenate([part.columns[name] for part in self.parts])


Find = Callable[..., Found]


@pytest.fixture
def find(tmp_path: Path, planes: np.ndarray) -> Find:
    def run(region: int, workers: int = 0, decoder: InstanceDecoder | None = None) -> Found:
        found, shape = Found(), planes.shape[1:]
        folders = [tmp_path / f"{kind}-{region}-{workers}" for kind in ("maps", "features")]
        for folder in folders:
            folder.mkdir()
        features = np.random.default_rng(0).random((4, -(-shape[0] // 2), -(-shape[1] // 2)))
        work = BlockWork(
            schema=SCHEMA,
            shape=(shape[0], shape[1]),
            maps=MapFiles(folders[0], region),
            layout=LAYOUT,
            decoder=decoder or HvDecoder(),
            mpp=0.5,
            store="",
            images=(),
            features=MapFiles(folders[1], region // 2),
            stride_px=2,
        )
        found.labels = np.zeros(shape, np.uint32)
        with worker_pool(workers) as pool:
            pipeline = CellPipeline(work, pool, workers, found.labels, found.parts.append)
            for y in range(0, shape[0], region):
                for x in range(0, shape[1], region):
                    box = Box(y, x, min(region, shape[0] - y), min(region, shape[1] - x))
                    tokens = Box(y // 2, x // 2, -(-box.height // 2), -(-box.width // 2))
                    work.maps.put(box, planes[(slice(None), *box.slices)])
                    assert work.features is not None
                    work.features.put(tokens, features[(slice(None), *tokens.slices)])
                    pipeline.region_put()
            found.counts = pipeline.finish()
        found.files = len(list(folders[0].iterdir()))  # pyright: ignore[reportAttributeAccessIssue]
        return found

    return run


@pytest.fixture
def whole(find: Find) -> Found:
    return find(512)


@pytest.mark.parametrize("region", [64, 128, 200])
def test_blocks_of_any_size_find_and_measure_the_same_cells(
    find: Find, whole: Found, region: int
) -> None:
    found = find(region)
    assert found.counts.cells == whole.counts.cells
    assert not found.counts.cut
    ids = found.column("id")
    np.testing.assert_array_equal(ids, np.arange(1, found.counts.cells + 1))
    pairs = np.unique(np.stack([found.labels.ravel(), whole.labels.ravel()], 1), axis=0)
    assert len(pairs) == whole.counts.cells + 1  # the same pixels, up to ids
    order = np.argsort(pairs[1:, 1])
    for name, values in whole.parts[0].columns.items():
        if name != "id":
            assert_alike(found.column(name)[order], values, name)
    embedding = np.concatenate(
        [part.embedding for part in found.parts if part.embedding is not None]
    )
    np.testing.assert_allclose(embedding[order], whole.parts[0].embedding, rtol=1e-5)


def assert_alike(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """Equal, but for the last digit of sums that began elsewhere."""
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12, err_msg=name)
    else:
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_what_is_found_is_what_was_there(whole: Found, truth: np.ndarray) -> None:
    missed = len(np.unique(truth)) - 1 - whole.counts.cells
    assert abs(missed) <= 0.01 * whole.counts.cells
    inside = (whole.labels > 0) & (truth > 0)
    even = truth[inside] % 2 == 0
    types = np.concatenate([[0], whole.column("type")])[whole.labels[inside]]
    assert (even == (types == 1)).mean() > 0.99


@pytest.mark.slow
def test_workers_change_nothing(find: Find) -> None:
    alone, helped = find(128, workers=0), find(128, workers=2)
    np.testing.assert_array_equal(helped.labels, alone.labels)
    for name in alone.parts[0].columns:
        np.testing.assert_array_equal(helped.column(name), alone.column(name), err_msg=name)


def test_maps_are_removed_once_they_are_used_up(find: Find) -> None:
    assert find(64).files == 6  # of six rows of as many regions, the last


class Ends:
    """Ends its process, as the kernel does for want of memory."""

    needs = ()

    def reach_px(self, mpp: float) -> int:
        return 1

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        os._exit(9)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_said_in_one_line(find: Find) -> None:
    with pytest.raises(TissueDataError, match="a worker process was ended from outside"):
        find(128, workers=1, decoder=Ends())
