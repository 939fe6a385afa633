"""Tiles per second from a tissue store, against opening its arrays anew for every tile.

`pytest -m benchmark` runs these; each compares with its named baseline in the same process.
"""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.planes import Tissue, Window
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

pytestmark = pytest.mark.benchmark(group="one 128 px tile of 17 SP channels", min_rounds=200)

SIZE_PX, TILE_PX = 1024, 128


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    path = tmp_path_factory.mktemp("benchmark") / "s.zarr"
    rng = np.random.default_rng(0)
    labels = np.zeros((SIZE_PX, SIZE_PX), np.int32)
    classes = (TissueClass(0, "background", "#000000"), TissueClass(1, "nucleus", "#ff0000"))
    panel = tuple(Channel(f"c{i}") for i in range(17))
    sp = rng.poisson(20, (17, SIZE_PX, SIZE_PX)).astype(np.uint16)
    with TissueWriter(path, mpp=0.5, classes=classes, panel=panel, images=["sp"]) as out:
        out.add("a", Tissue(labels, labels, sp=sp))
    return TissueStore(path)


@pytest.fixture
def windows() -> list[Window]:
    corners = np.random.default_rng(1).integers(0, SIZE_PX - TILE_PX, (64, 2)).tolist()
    return [Window(y, x, TILE_PX, TILE_PX) for y, x in corners]


def test_store_with_kept_handles(benchmark, store: TissueStore, windows: list[Window]) -> None:
    turns = iter(windows * 1000)
    assert benchmark(lambda: store.read("a", "sp", next(turns))).shape == (17, TILE_PX, TILE_PX)


def test_baseline_opening_the_array_for_every_tile(
    benchmark, store: TissueStore, windows: list[Window]
) -> None:
    turns = iter(windows * 1000)

    def read() -> np.ndarray:
        y, x, height, width = next(turns)
        array = zarr.open_array(store.path / "a/sp/0", mode="r")
        return np.asarray(array[..., y : y + height, x : x + width])

    assert benchmark(read).shape == (17, TILE_PX, TILE_PX)
