"""A tissue of made-up nuclei whose maps go through a pipeline, in regions of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from nuclei_made import made_nuclei
from stores import random_tissue, write_store

from tissueseg.cells.block_work import BlockWork
from tissueseg.cells.map_files import MapFiles
from tissueseg.cells.map_layout import MapLayout
from tissueseg.cells.pipeline import CellPipeline
from tissueseg.cells.workers import worker_pool
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.instances.hv import encode_hv
from tissueseg.instances.hv_decoder import HvDecoder
from tissueseg.instances.maps import InstanceDecoder
from tissueseg.instances.stitch import Stitched

TYPES = ((1, "tumor", "#ff0000"), (2, "immune", "#00ff00"))
LAYOUT = MapLayout.of(("foreground", "hv", "classes"), 3)
SCHEMA = CellSchema("t", 0.5, TYPES, ("DAPI", "CD3"), embedding_width=4)


@pytest.fixture(scope="package")
def truth() -> np.ndarray:
    return made_nuclei(600, 0.5, "dense")[:330, :410]


@pytest.fixture(scope="package")
def planes(truth: np.ndarray) -> np.ndarray:
    """Perfect maps: even cells are tumor, odd ones immune."""
    classes = np.stack([truth == 0, (truth > 0) & (truth % 2 == 0), truth % 2 == 1])
    maps = [(truth > 0)[None], encode_hv(truth), classes]
    return np.concatenate([part.astype(np.float32) for part in maps])


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory, truth: np.ndarray) -> str:
    """Where both images of the tissue lie."""
    tissue = random_tissue(*truth.shape)._replace(instances=truth, classes=(truth > 0) * 1)
    return write_store(tmp_path_factory.mktemp("store") / "s.zarr", {"t": tissue}).location


class Found:
    """What a pipeline handed on."""

    work: BlockWork
    files: int

    def __init__(self) -> None:
        self.parts: list[CellTable] = []
        self.labels = np.zeros((0, 0), np.uint32)
        self.counts = Stitched(0, 0, 0, 0)

    def column(self, name: str) -> np.ndarray:
        return np.concatenate([part.columns[name] for part in self.parts])


Find = Callable[..., Found]


@pytest.fixture(scope="package")
def find(tmp_path_factory: pytest.TempPathFactory, planes: np.ndarray, store: str) -> Find:
    def run(
        region: int,
        workers: int = 0,
        decoder: InstanceDecoder | None = None,
        planes: np.ndarray = planes,
        make_pool: Callable[[int], Any] = worker_pool,
        **changes: Any,
    ) -> Found:
        found, shape = Found(), planes.shape[1:]
        folders = [tmp_path_factory.mktemp(kind) for kind in ("maps", "features")]
        features = np.random.default_rng(0).random((4, -(-shape[0] // 2), -(-shape[1] // 2)))
        work = BlockWork(
            schema=SCHEMA,
            shape=(shape[0], shape[1]),
            maps=MapFiles(folders[0], region),
            layout=LAYOUT,
            decoder=decoder or HvDecoder(),
            mpp=0.5,
            store=store,
            images=("he", "sp"),
            features=MapFiles(folders[1], region // 2),
            stride_px=2,
        )
        work = replace(work, **changes)
        found.work, found.labels = work, np.zeros(shape, np.uint32)
        with make_pool(workers) as pool:
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
        found.files = len(list(folders[0].iterdir()))
        return found

    return run


@pytest.fixture(scope="package")
def whole(find: Find) -> Found:
    return find(512)
