"""Cost curves of a cohort: bytes that a formula has exactly, seconds by a line through measured runs.

`pytest -m benchmark tests/benchmarks/test_scale.py -s` prints tables with residuals and writes a page of
charts, which it names. `test_scale_cohort.py` looks at what grows with the cohort, `test_scale_plan.py`
prints what 10, 1 000 and 100 000 tissues need.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import cost_model_runs as runs
from cost_model import Cohort, Encoding, Size, curves_of, draw, fitted, show_line
from embedding_stores import empty_store, load
from stored_features import publish

from tissueseg.contracts import Channel
from tissueseg.store.demo import CLASSES as DRAWN_CLASSES
from tissueseg.store.demo import DemoParameters, draw_tissue
from tissueseg.store.embedding_folder import measure
from tissueseg.store.embedding_writer import EmbeddingWriter, Grid
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

pytestmark = pytest.mark.benchmark

BASE = Size(4, 16, 8)
SIZES = (
    BASE,
    *(BASE._replace(tissues=n) for n in (1, 16, 64)),
    *(BASE._replace(tiles=n) for n in (4, 64, 256)),
    *(BASE._replace(channels=n) for n in (2, 32, 64)),
)
DRAWN_CHANNELS = 17
TIMED = "CPU seconds of one process"


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("tiles", "views"), [(7, 1), (25, 8), (90, 1)])
def test_bytes_of_features_are_what_the_formula_says(
    tmp_path: Path, tiles: int, views: int
) -> None:
    encoding = Encoding("made up", 128, Grid(4, 8, 8, 512), 0.5)
    store = empty_store(tmp_path / "f.zarr", encoding.grid, views)
    shape = (tiles, views, *encoding.grid)
    with EmbeddingWriter(store) as writer:
        publish(writer, "t", np.ones(shape, np.float16))
    real, said = measure(tmp_path / "f.zarr/t").bytes, encoding.tissue_bytes(tiles, views)
    print(f"\n  {tiles} tiles × {views} views: {real:,} bytes, formula {said:,}")
    assert abs(said / real - 1) < 0.02


def stored_share(folder: Path, kind: str) -> float:
    """Bytes on disk of all arrays of a kind, per byte of their pixels."""
    place = {"instances": "labels/instances", "classes": "labels/classes"}.get(kind, kind)
    store = TissueStore(folder)
    size = sum(measure(folder / name / place).bytes for name in store.tissues)
    pixels = sum(
        np.prod(t.shape) * t.dtype.itemsize
        for t in (store.array_type(name, place) for name in store.tissues)
    )
    return float(size / pixels)


def test_bytes_of_images_by_how_well_they_compress(tmp_path: Path) -> None:
    """Drawn tissue keeps more than real tissue does where it is noisier, less where it is smoother."""
    panel = (*(Channel(f"c{i}") for i in range(DRAWN_CHANNELS)),)
    path, side = tmp_path / "s.zarr", 1024
    with TissueWriter(path, mpp=0.5, classes=DRAWN_CLASSES, panel=panel) as out:
        for i in range(2):
            drawn = draw_tissue(DemoParameters(size_px=side), i)
            tissue = Tissue(drawn.instances, drawn.classes, drawn.he, drawn.sp)
            out.add(f"t{i}", tissue._replace(patient=f"p{i}"))
    cohort = Cohort(2, side, DRAWN_CHANNELS)
    shares = {kind: stored_share(path, kind) for kind in cohort.planes()}
    real, said = measure(path).bytes, cohort.stored_bytes(shares)
    kept = ", ".join(f"{kind} {share:.3f}" for kind, share in shares.items())
    print(f"\n  drawn tissue, of each byte on disk: {kept}")
    print(
        f"  raw {cohort.raw_bytes() / 1e6:.1f} MB, stored {real / 1e6:.1f}, formula {said / 1e6:.1f}"
    )
    assert abs(said / real - 1) < 0.02


Job = Callable[[TissueStore, Path], float]


def measured(folder: Path, jobs: dict[str, Job]) -> dict[str, dict[Size, float]]:
    """Seconds of every job at every size; `prepare` makes what the others take."""
    found: dict[str, dict[Size, float]] = {"prepare": {}, **{name: {} for name in jobs}}
    for size in (BASE, *SIZES):  # the first time to warm up
        path = folder / "tissues.zarr"
        found["prepare"][size] = runs.prepare(path, size)
        for name, job in jobs.items():
            found[name][size] = job(TissueStore(path), folder)
    return found


def test_seconds_are_a_line_in_tissues_tiles_and_channels(tmp_path: Path) -> None:
    jobs: dict[str, Job] = {
        "read": lambda store, _: runs.read_all(store),
        "embed": lambda store, folder: runs.embed(store, folder / "features.zarr"),
        "train epoch": lambda store, _: runs.train_epoch(store),
    }
    found = measured(tmp_path, jobs)
    curves = {}
    print(f"\n{TIMED}, tiles of {runs.TILE_PX} px; {load()}")
    for name, seconds in found.items():
        line = fitted(seconds)
        show_line(name, seconds, line)
        curves[name] = curves_of(seconds, line, BASE)
        assert line.seconds(BASE) > 0
    page = tmp_path / "cost_curves.html"
    draw(curves, page)
    print(f"\n  charts: {page}")


def test_seconds_of_predict(tmp_path: Path) -> None:
    found: dict[Size, float] = {}
    sizes = [BASE, *(BASE._replace(tissues=n) for n in (1, 16)), BASE._replace(tiles=64)]
    for channels in (8, 32):
        folder = tmp_path / str(channels)
        folder.mkdir()
        run = runs.trained_run(folder, channels)
        for size in sizes:
            size = size._replace(channels=channels)
            path = folder / f"{size.tissues}_{size.tiles}.zarr"  # decoding remembers stores by path
            runs.prepare(path, size)
            store = TissueStore(path)
            if not found:
                runs.predict(run, store, folder / "out")  # to warm up
            found[size] = runs.predict(run, store, folder / "out")
    line = fitted(found)
    print(f"\n{TIMED}; {load()}")
    show_line("predict", found, line)
    page = tmp_path / "predict_curves.html"
    draw({"predict": curves_of(found, line, BASE)}, page)
    print(f"\n  charts: {page}")
    assert line.seconds(BASE) > 0


def test_workers_against_one(tmp_path: Path) -> None:
    """What reads on 0, 1 and 2 worker processes, and encodes with 1 and 2 threads that read."""
    size, wall = BASE._replace(tissues=8, tiles=64), time.perf_counter
    runs.prepare(tmp_path / "tissues.zarr", size)
    store = TissueStore(tmp_path / "tissues.zarr")
    tiles = size.tissues * size.tiles
    runs.read_all(store)
    print(f"\n{tiles} tiles of {runs.TILE_PX} px, {size.channels} channels; {load()}")
    for workers in (0, 1, 2):
        read, epoch = (job(store, workers, wall) for job in (runs.read_all, runs.train_epoch))
        print(f"  data.num_workers={workers}: read {tiles / read:7.0f} tiles/s", end="")
        print(f", train {tiles / epoch:7.0f} tiles/s")
        assert min(read, epoch) > 0
    for threads in (1, 2):
        encode = runs.embed(store, tmp_path / "features.zarr", threads, wall)
        print(f"  embed threads={threads}: {tiles / encode:7.0f} tiles/s")
        assert encode > 0
