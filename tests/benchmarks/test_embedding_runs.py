"""Making stored features, and training on them, against named baselines in the same process.

`pytest -m benchmark tests/benchmarks/test_embedding_runs.py -s` prints the tables: `embed` against the
encoder alone on tiles that are in memory, and training steps against batches that are.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from stores import compose
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from embedding_stores import compare, empty_store, show, take_turns, write_tissues

from tissueseg import assembly
from tissueseg.contracts import Batch, Modality
from tissueseg.data.datamodule import data_spec
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.encoders.base import Encoder
from tissueseg.features import build_encoder, open_features
from tissueseg.modules.embedding import Embedder, Tissue
from tissueseg.modules.segmentation import SegmentationModule
from tissueseg.store.embedding_writer import EmbeddingWriter, Grid

pytestmark = pytest.mark.benchmark

BARE = "bare encoder"


@pytest.fixture
def all_cpus() -> Iterator[None]:
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(1)


class Bare(NamedTuple):
    """An encoder, the tissues it encodes, and their tiles in memory."""

    encoder: Encoder
    images: TileImages
    tissues: list[Tissue]
    batches: list[Tensor]  # (B, C, H, W)


def bare(folder: Path, name: str, side_px: int, batch: int) -> Bare:
    """A random encoder, and two tissues of 128 px tiles on disk."""
    config = compose(f"encoder={name}", "modality=he")
    if "random_init" in config.encoder:
        config.encoder.random_init = True
    store = write_tissues(folder / "tissues.zarr", ("a", "b"), side_px)
    encoder = build_encoder(config, data_spec(store, Modality.HE, 128))
    normaliser = Normaliser.fit(store, ("a", "b"), Modality.HE, encoder.spec.normalisation)
    images = TileImages(store, store.tissues, normaliser, 128)
    cover = TileCover(side_px, side_px, 128, ["pad"])
    tissues = [Tissue(name, cover, {}) for name in store.tissues]
    plain = Views().view(0, "", (0, 0))
    tiles = [
        images.read(t.name, cover.origin(i), plain)[0] for t in tissues for i in range(len(cover))
    ]
    whole = torch.from_numpy(np.stack(tiles))
    return Bare(encoder, images, tissues, list(whole.split(batch)))


def embed_all(given: Bare, path: Path, device: torch.device, rates: list[float]) -> None:
    """What the command does, into a store that was not there."""
    shutil.rmtree(path, ignore_errors=True)
    spec = given.encoder.spec
    tokens = 128 // given.encoder.stride_px
    store = empty_store(path, Grid(4, tokens, tokens, spec.channels[0]))
    with EmbeddingWriter(store) as writer:
        embedder = Embedder(
            given.encoder,
            given.images,
            Views(),
            writer,
            device=device,
            autocast=torch.bfloat16 if device.type == "cuda" else None,
            batch_size=len(given.batches[0]),
            threads=os.cpu_count() or 1,
            tell=lambda *_: None,
        )
        outcome = embedder.run(given.tissues, skip_failed=False)
    assert outcome.encoded == [tissue.name for tissue in given.tissues]
    rates.append(writer.written.bytes / writer.written.seconds / 1e9)


def encode_all(given: Bare, device: torch.device) -> None:
    """Nothing but the encoder; a GPU's results stay there."""
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for batch in given.batches:
            given.encoder(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()


def compare_embedding(
    given: Bare, path: Path, device: torch.device, title: str, rounds: int
) -> None:
    given.encoder.to(device)
    on_device = given._replace(batches=[batch.to(device) for batch in given.batches])
    rates: list[float] = []
    jobs = {
        BARE: lambda: encode_all(on_device, device),
        "embed": lambda: embed_all(given, path, device, rates),
    }
    times = take_turns(jobs, rounds)
    count = sum(map(len, given.batches))
    show(title, times, count, "tiles/s", BARE)
    compare(times, "embed", BARE, 0.9)
    print(f"  written at {np.median(rates):.2f} GB/s, fsync included")


@pytest.mark.parametrize(
    ("encoder", "side_px", "batch", "rounds"), [("cellvit_256", 512, 8, 3), ("tiny", 1024, 16, 15)]
)
@pytest.mark.usefixtures("all_cpus")
def test_embedding_against_the_bare_encoder(
    tmp_path: Path, encoder: str, side_px: int, batch: int, rounds: int
) -> None:
    given = bare(tmp_path, encoder, side_px, batch)
    title = f"{encoder}, 128 px tiles, batches of {batch} on the CPU"
    compare_embedding(given, tmp_path / "features.zarr", torch.device("cpu"), title, rounds)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("encoder", ["cellvit_256", "tiny"])
def test_embedding_against_the_bare_encoder_on_a_gpu(tmp_path: Path, encoder: str) -> None:
    given = bare(tmp_path, encoder, 6144, 256)
    title = f"{encoder}, 128 px tiles, batches of 256 on {torch.cuda.get_device_name()}"
    compare_embedding(given, tmp_path / "features.zarr", torch.device("cuda"), title, 5)


class Training(NamedTuple):
    """A module, and the loader that brings its features."""

    module: SegmentationModule
    loader: Iterable[Batch]


HELD = "batches in memory"
FULL = ("decoder.width=1", "decoder.dropout=0.3", "encoder.spec.channels=[512,512,512,512]")


def stored_training(
    folder: Path, run_cli: Callable[..., Any], tile_px: int, batch: int, words: tuple[str, ...]
) -> Training:
    """Features made by the command; what `train` would build on them."""
    names = [f"t{i}" for i in range(8)]
    store = write_tissues(folder / "tissues.zarr", names, 4 * tile_px)
    overrides = (
        "setting=untrained",
        "modality=he",
        "encoder=tiny",
        f"store.path={store.path}",
        f"data.tile_px={tile_px}",
        f"data.batch_size={batch}",
        "features=stored",
        "class_weights=null",
        *words,
    )
    assert run_cli("embed", *overrides).returncode == 0
    config = compose(*overrides)
    split = assembly.open_split(config, store)
    source = open_features(config, store, split)
    data = assembly.open_data(config, store, split, source)
    return Training(assembly.build_module(config, source, data), data.train_dataloader())


def train_on(module: SegmentationModule, batches: Iterable[Batch]) -> int:
    """Steps taken."""
    optimizer = torch.optim.AdamW(module.decoder.parameters(), 1e-4)
    steps = 0
    for batch in batches:
        outputs = module.decoder(module.features(batch))
        loss = module.loss(outputs, batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps


@pytest.mark.parametrize(
    ("size", "tile_px", "batch", "steps", "rounds", "words"),
    [("full width", 120, 4, 3, 4, FULL), ("demo size", 128, 4, 16, 9, ())],
    ids=["full width", "demo size"],
)
def test_training_on_stored_features_against_batches_in_memory(
    tmp_path: Path,
    run_cli: Callable[..., Any],
    size: str,
    tile_px: int,
    batch: int,
    steps: int,
    rounds: int,
    words: tuple[str, ...],
) -> None:
    module, loader = stored_training(tmp_path, run_cli, tile_px, batch, words)
    held = list(islice(loader, steps))
    assert len(held) == steps
    jobs = {
        HELD: lambda: train_on(module, held),
        "stored features": lambda: train_on(module, islice(loader, steps)),
    }
    times = take_turns(jobs, rounds)
    show(f"steps of {batch} tiles of {tile_px} px, {size}", times, steps, "steps/s", HELD)
    print(f"  a step takes {times.ratio('stored features', HELD):.3f} × as long, wanted ≤ 1.05")
