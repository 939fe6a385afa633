"""What a process does with a cohort before the first tile, in one of its own: seconds and memory.

    python tests/benchmarks/cost_model_cohort.py FOLDER TISSUES TILES

prints JSON: step -> [seconds, bytes of resident memory it added, tissues it looked at], and the last step
is an epoch that reads TILES tiles. The cohort is one tissue under many names (symbolic links): every file
is opened as often as of as many tissues, but the disk is asked once.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import numpy as np
import torch
from cost_model_runs import TILE_PX, configured
from embedding_stores import GRID, empty_store
from stored_features import publish
from stores import random_tissue, write_store

from tissueseg import assembly
from tissueseg.contracts import Modality
from tissueseg.data.chances import training_counts
from tissueseg.data.normalise import Normaliser
from tissueseg.data.sampling import EpochShuffle, Rank, ScoredTiles, TrainingPicks, WeightedOrder
from tissueseg.data.split_rules import ByPatient, Sequential
from tissueseg.data.splits import Cohort
from tissueseg.data.views import Views
from tissueseg.store import layout
from tissueseg.store.claims import Claims
from tissueseg.store.embedding_writer import EmbeddingWriter
from tissueseg.store.embeddings import EmbeddingStore
from tissueseg.store.tile_counts import TileCounts
from tissueseg.store.tissues import TissueStore

SIDE_PX = 128
FIRST = "t000000"
LOOKED_AT = 1000  # tissues, by what is slow and asked tissue by tissue
Measured = dict[str, tuple[float, int, int]]


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def write_cohort(path: Path, tissues: int) -> TissueStore:
    """One tissue under many names, of a patient each."""
    write_store(path, {FIRST: random_tissue(SIDE_PX, SIDE_PX)})
    index = json.loads((path / "zarr.json").read_text())
    entry = index["attributes"][layout.ATTRIBUTE]["tissues"][0]
    names = [f"t{i:06d}" for i in range(tissues)]
    index["attributes"][layout.ATTRIBUTE]["tissues"] = [
        [name, f"p{name}", *entry[2:4], f"{i:064x}", *entry[5:]] for i, name in enumerate(names)
    ]
    (path / "zarr.json").write_text(json.dumps(index))
    for name in names[1:]:
        (path / name).symlink_to(FIRST)
    return TissueStore(path)


def write_features(path: Path, names: tuple[str, ...]) -> None:
    """Features of as many tissues, of four tiles each."""
    store = empty_store(path, GRID._replace(height=2, width=2, channels=16))
    with EmbeddingWriter(store) as writer:
        publish(writer, names[0], np.ones((4, 1, *store.grid), np.float16), {"sp": "one"})
    for name in names[1:]:
        (path / name).symlink_to(names[0])


class Stopwatch:
    """Seconds and memory of one step after another."""

    def __init__(self) -> None:
        self.found: Measured = {}

    def __call__(self, step: str, job: Callable[[], Any], tissues: int) -> Any:
        held, begun = resident_bytes(), time.perf_counter()
        made = job()
        seconds = time.perf_counter() - begun
        self.found[step] = seconds, resident_bytes() - held, tissues
        return made


def claim_all(folder: Path, names: tuple[str, ...]) -> None:
    with Claims(folder) as claims:
        for name in names:
            claim = claims.take(name)
            assert claim is not None
            claim.release()


def look_at(store: TissueStore, folder: Path, tiles: int, watch: Stopwatch) -> None:
    n, names = len(store.tissues), store.tissues
    few = names[:LOOKED_AT]
    cohort = watch("what rules know", lambda: Cohort.of(store), n)
    split = watch("split, sequential", lambda: Sequential(train=0.8, val=0.2)(cohort), n)
    watch("split, by_patient", lambda: ByPatient(train=0.7, val=0.15, test=0.15)(cohort), n)
    config, source = configured(store, "modality=he_sp")
    scale = source.spec.normalisation
    fit = lambda: Normaliser.fit(store, split.train, Modality.HE_SP, scale)  # noqa: E731
    watch("moments of training tissues", fit, len(split.train))
    watch("class pixels", lambda: store.class_pixels(split.train), len(split.train))
    digests = lambda: [store.image_digests(t, Modality.HE_SP) for t in names]  # noqa: E731
    watch("digests of images", digests, n)
    count = lambda: training_counts(TileCounts(store), few, TILE_PX, "shift")  # noqa: E731
    watch("tiles counted", count, len(few))
    watch("tiles counted before", count, len(few))
    features = EmbeddingStore(folder / "features.zarr")
    states = lambda: features.states({name: {"sp": "one"} for name in names})  # noqa: E731
    assert len(watch("features complete?", states, n)) == n
    watch("claims", lambda: claim_all(folder / "claims", few), len(few))
    data = watch("data module", lambda: assembly.open_data(config, store, split, source), n)
    watch("what to say of scaling", data.describe_scaling, n)
    loader = data.train_dataloader()
    batches = lambda: sum(1 for _ in islice(loader, tiles // loader.batch_size))  # noqa: E731
    watch(EPOCH, batches, n)


EPOCH = "tiles of an epoch"


def bytes_per_tile(tiles: int) -> dict[str, tuple[int, int]]:
    """What the order of an epoch holds, and takes for a moment, in bytes a tile."""
    import tracemalloc

    jobs: dict[str, Callable[[], Any]] = {
        "every tile once": lambda: TrainingPicks(EpochShuffle(range(tiles), 0), Views(), 0),
        "oversampled": lambda: TrainingPicks(WeightedOrder(np.ones(tiles), 0), Views(), 0),
        "scored": lambda: ScoredTiles(range(tiles), Rank(), 16),
    }
    found = {}
    for name, make in jobs.items():
        tracemalloc.start()
        order = make()
        places = iter(order)
        next(places)
        held, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        found[name] = round(held / tiles), round(most / tiles)
    return found


def main(folder: Path, tissues: int, tiles: int) -> None:
    torch.set_num_threads(1)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = write_cohort(folder / "tissues.zarr", tissues).tissues
    write_features(folder / "features.zarr", names)
    watch = Stopwatch()
    store = watch("open the store", lambda: TissueStore(folder / "tissues.zarr"), tissues)
    look_at(store, folder, tiles, watch)
    print(json.dumps({"steps": watch.found, "resident": resident_bytes()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
