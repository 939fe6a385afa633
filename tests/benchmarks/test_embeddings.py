"""Reading stored features at random, against named baselines that read the same bytes.

`pytest -m benchmark tests/benchmarks/test_embeddings.py -s` prints the tables. What is compared runs in
one process and takes turns, and reads from the page cache: 0.6 GB in each form.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import Tensor
from torch.utils.data import Dataset, RandomSampler

sys.path.insert(0, str(Path(__file__).parent))
from embedding_stores import (
    GRID,
    TILE_PX,
    Copies,
    compare,
    encoder_spec,
    show,
    take_turns,
    write_copies,
    write_tissues,
)

from tissueseg.contracts import Batch, Modality
from tissueseg.data.dataset import TileDataset, collate
from tissueseg.data.features import FeatureReader
from tissueseg.data.loading import PrefetchLoader
from tissueseg.data.normalise import Normaliser
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.data.tiles import TileCover
from tissueseg.store.embeddings import Request

pytestmark = pytest.mark.benchmark

BATCH, BATCHES, ROUNDS = 64, 9, 9
MEMMAP, MEMMAP_ANEW = "memmap", "memmap, a new buffer per batch"
ZARR, FILES, LOADER = "zarr z[i]", "torch.load, a file per tile", "through the loader"
BATCH_GB = BATCH * np.zeros(GRID, np.float16).nbytes / 1e9


@pytest.fixture(scope="module", params=[(1, 625), (25, 25)], ids=["1 tissue", "25 tissues"])
def copies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("copies")
    yield write_copies(folder, *request.param)
    shutil.rmtree(folder)


def cover_of(copies: Copies) -> TileCover:
    side = round(copies.per_tissue**0.5) * TILE_PX
    return TileCover(side, side, TILE_PX, ["pad"])


class TileNumbers(Dataset[int]):
    """Nothing but numbers of tiles, so that features are all that costs."""

    def __init__(self, copies: Copies) -> None:
        self._count, self._per_tissue = len(copies.array), copies.per_tissue
        self._cover = cover_of(copies)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index

    def batch(self, numbers: list[int]) -> Batch:
        tissues, tiles = np.divmod(np.array(numbers), self._per_tissue)
        origins = torch.tensor([self._cover.origin(tile) for tile in tiles.tolist()])
        nothing, views = torch.zeros(len(numbers)), torch.zeros(len(numbers), dtype=torch.int64)
        tissue = torch.from_numpy(tissues)
        return Batch(nothing, nothing, nothing, nothing, {}, tissue, origins, views)


def stored_features(copies: Copies) -> FeatureReader:
    covers = [cover_of(copies)] * len(copies.tissues)
    return FeatureReader(copies.store, covers, copies.tissues)


def random_batches(copies: Copies) -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.permutation(len(copies.array))[:BATCH].tolist() for _ in range(BATCHES)]


def consume(batches: Iterable[Batch]) -> int:
    return sum(len(batch.image) for batch in batches)


def loader_of(copies: Copies, batches: int) -> PrefetchLoader:
    numbers = TileNumbers(copies)
    return PrefetchLoader(
        numbers,
        batch_size=BATCH,
        sampler=RandomSampler(numbers, num_samples=BATCH * batches),
        collate_fn=numbers.batch,
        finish=stored_features(copies),
    )


def readers(copies: Copies) -> dict[str, Callable[[], Any]]:
    """Every way to bring the same batches of features into memory."""
    batches, kept = random_batches(copies), np.empty((BATCH, *GRID), np.float16)
    arrays = [zarr.open_array(f"{copies.store.path}/{name}", mode="r") for name in copies.tissues]
    loader = loader_of(copies, BATCHES)

    def place(number: int) -> tuple[int, int]:
        return divmod(number, copies.per_tissue)

    def ask(number: int) -> Request:
        tissue, tile = place(number)
        return Request(copies.tissues[tissue], tile, 0)

    def of_zarr(number: int) -> Any:
        tissue, tile = place(number)
        return arrays[tissue][tile, 0]

    def of_file(number: int) -> Tensor:
        return torch.load(copies.files[number], weights_only=True)

    def filled(of: Callable[[int], Any], batch: list[int], out: np.ndarray = kept) -> np.ndarray:
        for row, number in enumerate(batch):
            out[row] = of(number)
        return out

    def read(batch: list[int]) -> np.ndarray:
        copies.store.read([ask(number) for number in batch], kept)
        return kept

    mapped = copies.array.__getitem__
    ways: dict[str, Callable[[list[int]], Any]] = {
        MEMMAP: lambda batch: filled(mapped, batch),
        MEMMAP_ANEW: lambda batch: filled(mapped, batch, np.empty_like(kept)),
        "EmbeddingStore.read": read,
        ZARR: lambda batch: filled(of_zarr, batch),
        FILES: lambda batch: torch.stack([of_file(number) for number in batch]).numpy(),
    }
    wanted = filled(mapped, batches[0], np.empty_like(kept)).view(np.uint16)
    for way in ways.values():
        assert np.array_equal(way(batches[0]).view(np.uint16), wanted)
    jobs = {name: partial(each, way, batches) for name, way in ways.items()}
    return jobs | {LOADER: lambda: consume(loader)}


def each(way: Callable[[list[int]], Any], batches: list[list[int]]) -> None:
    for batch in batches:
        way(batch)


def test_random_tiles_through_the_loader(copies: Copies) -> None:
    first = next(iter(loader_of(copies, 1)))
    assert first.features is not None
    numbers = first.tissue.numpy() * copies.per_tissue + cover_of(copies).index(
        first.origin.numpy()
    )
    assert np.array_equal(first.features.numpy().view("u2"), copies.array[numbers].view("u2"))
    times = take_turns(readers(copies), ROUNDS)
    title = f"batches of {BATCH} random tiles from {len(copies.tissues)} tissues"
    show(title, times, BATCH_GB * BATCHES, "GB/s", MEMMAP)
    for base, wanted in ((MEMMAP, 0.7), (MEMMAP_ANEW, 0.7), (ZARR, 5), (FILES, 3)):
        compare(times, LOADER, base, wanted)


def test_whole_batches_with_and_without_features(copies: Copies, tmp_path: Path) -> None:
    side = round(copies.per_tissue**0.5) * TILE_PX
    tissues = write_tissues(tmp_path / "tissues.zarr", copies.tissues, side)
    normaliser = Normaliser.fit(tissues, copies.tissues, Modality.HE, encoder_spec().normalisation)
    data = TileDataset(
        tissues,
        copies.tissues,
        normaliser,
        Targets.for_heads(["classes"], BoundaryTarget()),
        TILE_PX,
        "pad",
    )

    def whole(finish: FeatureReader | None) -> Callable[[], int]:
        sampler = RandomSampler(data, num_samples=BATCH * 4)
        return lambda: consume(
            PrefetchLoader(
                data, batch_size=BATCH, sampler=sampler, collate_fn=collate, finish=finish
            )
        )

    jobs = {"tiles alone": whole(None), "tiles and features": whole(stored_features(copies))}
    assert [job() for job in jobs.values()] == [BATCH * 4] * 2
    times = take_turns(jobs, ROUNDS)
    title = f"whole batches of {BATCH} from {len(copies.tissues)} tissues"
    show(title, times, 4, "batches/s", "tiles alone")
