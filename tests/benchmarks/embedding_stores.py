"""Stores of features for benchmarks, the same bytes in other forms, and rounds taken in turn."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from stores import CLASSES

from tissueseg.contracts import EncoderSpec, Modality
from tissueseg.store.embedding_writer import EmbeddingWriter, Grid, create_store
from tissueseg.store.embeddings import EmbeddingStore
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

GRID = Grid(4, 15, 15, 512)  # of a tile of 120 px: 0.92 MB in float16
TILE_PX, TOKEN_PX = 120, 8


class Copies(NamedTuple):
    """The same features three times; `array` counts tiles through all tissues."""

    store: EmbeddingStore
    array: np.memmap  # (tile, level, h, w, D)
    files: list[Path]  # one tile each, as `torch.save` writes it
    tissues: tuple[str, ...]
    per_tissue: int  # tiles


def encoder_spec(grid: Grid = GRID, token_px: int = TOKEN_PX) -> EncoderSpec:
    channels = (grid.channels,) * grid.levels
    return EncoderSpec("random", (Modality.HE,), channels, token_px, random_init=True)


def empty_store(path: Path, grid: Grid = GRID, views: int = 1) -> EmbeddingStore:
    fields = {"dtype": "float16", "views": {"dihedral": views, "extra": 0}}
    return create_store(path, fields, encoder_spec(grid), grid, {})


def fill(store: EmbeddingStore, tissue: str, features: np.ndarray) -> None:
    """Store (tile, level, h, w, D) as a tissue of one view."""
    with EmbeddingWriter(store) as writer:
        attempt = writer.begin(tissue, len(features))
        assert attempt is not None
        step = writer.block_shape(len(features))[0]
        for number, first in enumerate(range(0, len(features), step)):
            attempt.put(number, features[first : first + step, None])
        attempt.publish({}).result()


def write_copies(folder: Path, tissues: int, per_tissue: int) -> Copies:
    """Random features in a store, in one array and in a file per tile."""
    rng, names = np.random.default_rng(0), tuple(f"t{i:03d}" for i in range(tissues))
    store = empty_store(folder / "features.zarr")
    shape = (tissues * per_tissue, *GRID)
    array = np.lib.format.open_memmap(folder / "features.npy", "w+", "float16", shape)
    files = [folder / f"{i:05d}.pt" for i in range(len(array))]
    for number, name in enumerate(names):
        part = rng.standard_normal((per_tissue, *GRID), np.float32).astype(np.float16)
        first = number * per_tissue
        array[first : first + per_tissue] = part
        fill(store, name, part)
        for file, tile in zip(files[first:], part, strict=False):
            torch.save(torch.from_numpy(tile).clone(), file)
    array.flush()
    reopened = np.load(folder / "features.npy", mmap_mode="r")
    return Copies(store, reopened, files, names, per_tissue)


def write_tissues(path: Path, names: Iterable[str], side_px: int) -> TissueStore:
    """Square H&E tissues with nuclei of 6 px in every 8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side_px, :side_px]
    cells = 1 + rows // 8 * -(-side_px // 8) + columns // 8
    labels = np.where((rows % 8 < 6) & (columns % 8 < 6), cells, 0).astype(np.int32)
    classes = np.where(labels > 0, 1 + labels % 2, 0)
    with TissueWriter(path, mpp=0.5, classes=CLASSES, panel=(), images=["he"]) as out:
        for name in names:
            he = rng.integers(0, 256, (3, side_px, side_px), np.uint8)
            out.add(name, Tissue(labels, classes, he=he, patient=name))
    return TissueStore(path)


class Times(NamedTuple):
    """Seconds of some jobs, which took turns."""

    rounds: Mapping[str, list[float]]

    def best(self, job: str) -> float:
        return min(self.rounds[job])

    def median(self, job: str) -> float:
        return statistics.median(self.rounds[job])

    def ratio(self, job: str, other: str) -> float:
        """How many times as long a job takes; of each round its own, since load comes and goes."""
        pairs = zip(self.rounds[job], self.rounds[other], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def take_turns(jobs: Mapping[str, Callable[[], Any]], rounds: int) -> Times:
    """Run all jobs once to warm up, then in turn, so that load on the machine falls on all alike."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            begun = time.perf_counter()
            job()
            if turn:
                taken[name].append(time.perf_counter() - begun)
    return Times(taken)


def load() -> str:
    """How busy the machine is, to stand in a table's head."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"


def show(title: str, times: Times, of_what: float, unit: str, base: str) -> None:
    """A table of rates, and of how they compare with one of them."""
    print(f"\n{title}; {load()}\n  {'':<38}   median     best  {unit}")
    for job in times.rounds:
        median, best = of_what / times.median(job), of_what / times.best(job)
        print(f"  {job:<38} {median:8.2f} {best:8.2f}   {times.ratio(base, job):5.2f} × {base}")


def compare(times: Times, ours: str, base: str, wanted: float) -> None:
    got, best = times.ratio(base, ours), times.best(base) / times.best(ours)
    print(f"  {ours}: {got:.2f} (best {best:.2f}) × {base}, wanted {wanted:g}")
