"""Small runs of what a cohort goes through, each timed in this process: the points of the cost curves."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cost_model import EDGES, Size
from stores import CLASSES, compose

from tissueseg import assembly
from tissueseg.contracts import Channel, Modality
from tissueseg.data.datamodule import data_spec
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.features import FeatureSource, build_encoder
from tissueseg.modules.embedding import Embedder
from tissueseg.modules.embedding import Tissue as Job
from tissueseg.store.embedding_writer import EmbeddingWriter, Grid, create_store
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

Timer = Callable[[], float]
TILE_PX = 64
WORDS = (
    "setting=untrained",
    "modality=sp",
    "encoder=tiny",
    "encoder.spec.channels=[16,16,16,16]",
    "decoder.width=0.0625",
    f"data.tile_px={TILE_PX}",
    "data.batch_size=8",
    "class_weights=null",
    "features=online",
)


def clock(job: Callable[[], Any], timer: Timer = time.process_time) -> float:
    """Seconds of a job: of this process's CPU, in which other work on the machine hardly shows."""
    begun = timer()
    job()
    return timer() - begun


def drawn_tissue(size: Size) -> Tissue:
    """Random pixels as a camera's noise has them, and nuclei of 6 px in every 8."""
    rows, columns = _sides(size.tiles)
    rng, shape = np.random.default_rng(0), (rows * TILE_PX, columns * TILE_PX)
    y, x = np.mgrid[: shape[0], : shape[1]]
    cells = 1 + y // 8 * -(-shape[1] // 8) + x // 8
    labels = np.where((y % 8 < 6) & (x % 8 < 6), cells, 0).astype(np.int32)
    classes = np.where(labels > 0, 1 + labels % 2, 0).astype(np.uint8)
    return Tissue(labels, classes, sp=rng.poisson(40, (size.channels, *shape)).astype(np.uint16))


def _sides(tiles: int) -> tuple[int, int]:
    rows = 2 ** (int(math.log2(tiles)) // 2)
    return rows, tiles // rows


def prepare(path: Path, size: Size) -> float:
    """Seconds to write a store of images that are in memory."""
    tissue = drawn_tissue(size)
    panel = tuple(Channel(f"c{i}") for i in range(size.channels))

    def write() -> None:
        with TissueWriter(path, mpp=0.5, classes=CLASSES, panel=panel, images=["sp"]) as out:
            for i in range(size.tissues):
                out.add(f"t{i:03d}", tissue._replace(patient=f"p{i}"))

    shutil.rmtree(path, ignore_errors=True)
    return clock(write)


def configured(store: TissueStore, *words: str) -> tuple[Any, FeatureSource]:
    """A configuration, and a tiny encoder that fits it."""
    config = compose(*WORDS, f"store.path={store.path}", *words)
    encoder = build_encoder(config, data_spec(store, Modality(config.modality), TILE_PX))
    return config, FeatureSource(encoder.spec, encoder, None)


def embed(
    store: TissueStore, path: Path, threads: int = 1, timer: Timer = time.process_time
) -> float:
    """Seconds to encode all tissues into a new store, by a tiny encoder."""
    _, source = configured(store)
    encoder, names = source.encoder, store.tissues
    assert encoder is not None
    tokens = TILE_PX // encoder.stride_px
    grid = Grid(4, tokens, tokens, encoder.spec.channels[0])
    fields = {"dtype": "float16", "views": {"dihedral": 1, "extra": 0}}

    def run() -> None:
        shutil.rmtree(path, ignore_errors=True)
        normaliser = Normaliser.fit(store, names, Modality.SP, encoder.spec.normalisation)
        images = TileImages(store, names, normaliser, TILE_PX)
        jobs = [Job(n, TileCover(*store.entry(n)[2:4], TILE_PX, EDGES), {"sp": n}) for n in names]
        options = {"autocast": None, "batch_size": 8, "threads": threads}
        with EmbeddingWriter(create_store(path, fields, encoder.spec, grid, {})) as writer:
            device, nobody = torch.device("cpu"), lambda *_: None
            embedder = Embedder(
                encoder, images, Views(), writer, device=device, tell=nobody, **options
            )
            done = embedder.run(jobs, skip_failed=False)
        assert done.encoded == list(names)

    return clock(run, timer)


def train_epoch(store: TissueStore, workers: int = 0, timer: Timer = time.process_time) -> float:
    """Seconds of an epoch that trains on all tissues, the tiny encoder online."""
    config, source = configured(store, f"data.num_workers={workers}")
    split = Split(store.tissues, store.tissues[:1])
    data = assembly.open_data(config, store, split, source)
    module = assembly.build_module(config, source, data)
    optimizer = torch.optim.AdamW(module.decoder.parameters(), 1e-4)

    def epoch() -> None:
        seen = 0
        for batch in data.train_dataloader():
            loss = module.loss(module.decoder(module.features(batch)), batch).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(batch.image)
        assert seen == sum(len(_cover(store, name)) for name in store.tissues)

    return clock(epoch, timer)


def read_all(store: TissueStore, workers: int = 0, timer: Timer = time.process_time) -> float:
    """Seconds to read every tile once, without any network."""
    config, source = configured(store, f"data.num_workers={workers}")
    data = assembly.open_data(config, store, Split(store.tissues, store.tissues[:1]), source)
    return clock(lambda: sum(len(b.image) for b in data.train_dataloader()), timer)


def trained_run(folder: Path, channels: int) -> Path:
    """A run of one epoch, on tissues like those that are predicted."""
    prepare(folder / "small.zarr", Size(3, 4, channels))
    words = (*WORDS, "store.path=small.zarr", "epochs=1", "logger=csv", "run_dir=run")
    shares = ("split={train: 1, val: 1, test: 1}", "panels={count: 1, size_px: 64}")
    command = [sys.executable, "-m", "tissueseg.train", *words, *shares]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def predict(run: Path, store: TissueStore, out: Path, workers: int = 0) -> float:
    """Seconds of the command in this process, its start included."""
    from tissueseg.command import run_command
    from tissueseg.predict import predict as command

    words = [f"run={run}", f"store.path={store.path}", f"out={out}", f"workers={workers}"]
    shutil.rmtree(out, ignore_errors=True)
    given, sys.argv = sys.argv, ["tissueseg.predict", *words, "preview=false"]
    try:
        with redirect_stdout(StringIO()):
            return clock(lambda: run_command("predict", command))
    finally:
        sys.argv = given


def _cover(store: TissueStore, name: str) -> TileCover:
    return TileCover(*store.entry(name)[2:4], TILE_PX, ["shift"])
