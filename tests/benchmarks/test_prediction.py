"""What comes after the network in `predict`, against the network; and peak memory against tissue size.

`pytest -m benchmark tests/benchmarks/test_prediction.py -s` prints both tables.

The network is VirTues at its released size on 16 channels with CellViT's decoder at full width, all
three heads, timed on some tiles of the tissue and scaled to all of them. Everything else runs whole, in
this process and alone, on maps as a perfect network would give them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nuclei_made import made_nuclei
from stores import CLASSES, TINY

from tissueseg.cells.map_layout import MapLayout
from tissueseg.contracts import Channel, DataSpec, EncoderSpec, Markers, Modality
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.encoders.virtues import VirTues
from tissueseg.instances.boxes import Box
from tissueseg.instances.hv import encode_hv
from tissueseg.modules.inference import TileNetwork
from tissueseg.modules.tissue_maps import RegionMaps
from tissueseg.store.planes import Tissue
from tissueseg.store.writer import TissueWriter

pytestmark = pytest.mark.benchmark

SIDE, CHANNELS, MPP, TILE, OVERLAP = 3000, 16, 0.5, 128, 32
PANEL = tuple(Channel(f"c{i}", f"P{i:05d}") for i in range(CHANNELS))
SIZES = (2000, 8000)
MEASURE = str(Path(__file__).with_name("measure_memory.py"))


def nuclei() -> np.ndarray:
    """Some 45 000 packed nuclei."""
    found = made_nuclei(46_000, MPP, "packed")[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[: found.shape[0], : found.shape[1]] = found
    return labels


def write(path: Path, labels: np.ndarray, channels: int, labelled: bool) -> Path:
    """A store of one tissue in which nuclei can be seen."""
    tissue = stained(labels, channels)
    if not labelled:
        tissue = tissue._replace(instances=None, classes=None)
    with TissueWriter(path, mpp=MPP, classes=CLASSES, panel=PANEL[:channels]) as writer:
        writer.add("t", tissue)
    return path


def stained(labels: np.ndarray, channels: int, seed: int = 0) -> Tissue:
    """Images in which nuclei can be seen, of two kinds."""
    rng = np.random.default_rng(seed)
    inside = labels > 0
    sp = rng.integers(0, 500, (channels, *labels.shape), np.uint16)
    sp += (inside * rng.integers(500, 4000, (channels, 1, 1))).astype(np.uint16)
    he = np.stack([220 - 140 * inside, 190 - 130 * inside, 230 - 60 * inside]).astype(np.uint8)
    return Tissue(labels, ((labels % 2 + 1) * inside).astype(np.uint8), he, sp)


def trained(folder: Path, channels: int) -> Path:
    """A small run on data of the same kind."""
    with TissueWriter(folder / "small.zarr", mpp=MPP, classes=CLASSES, panel=PANEL[:channels]) as w:
        for seed, name in enumerate("abc"):
            labels = made_nuclei(150, MPP, "dense", seed)
            w.add(name, stained(labels, channels, seed)._replace(patient=name))
    words = (*TINY, "store.path=small.zarr", "modality=he_sp", "decoder=panoptic", "epochs=12")
    command = [sys.executable, "-m", "tissueseg.train", *words, "run_dir=run"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "run"


def network() -> TileNetwork:
    vectors = np.random.default_rng(0).normal(size=(CHANNELS, 640)).astype(np.float32)
    spec = EncoderSpec("virtues", (Modality.SP,), (512,) * 4, 8, 1.0, random_init=True)
    data = DataSpec(Modality.SP, CHANNELS, CLASSES, PANEL, MPP, TILE)
    encoder = VirTues(spec, data, None, lambda _: Markers(tuple(range(CHANNELS)), vectors))
    heads = {"classes": {}, "foreground": {}, "hv": {}}
    decoder = SkipDecoder(encoder.spec, CHANNELS, len(CLASSES), heads, share="branches")
    layout = MapLayout.of(heads, len(CLASSES))
    return TileNetwork(encoder, decoder, layout, device=torch.device("cpu"), features=True)


def seconds_per_tile(batch: int = 4, rounds: int = 3) -> float:
    torch.set_num_threads(2)
    predict, times = network(), []
    image, present = torch.randn(batch, CHANNELS, TILE, TILE), torch.ones(batch, CHANNELS).bool()
    for _ in range(rounds + 1):
        start = time.perf_counter()
        predict(image, present)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[rounds // 2] / batch


class PerfectMaps:
    """Stands where the network stands."""

    def __init__(self, labels: np.ndarray, region: int, width: int, stride: int) -> None:
        self.labels, self.region, self.width, self.stride = labels, region, width, stride

    def regions(self, tissue: str, shape: tuple[int, int]) -> Iterator[RegionMaps]:
        for y in range(0, shape[0], self.region):
            for x in range(0, shape[1], self.region):
                h, w = min(self.region, shape[0] - y), min(self.region, shape[1] - x)
                box = Box(y, x, h, w)
                wide = box.grown(64, shape)
                labels = self.labels[wide.slices]
                hv = encode_hv(labels)[(slice(None), *box.within(wide))]
                cut = self.labels[box.slices]
                classes = np.stack([cut == 0, (cut > 0) & (cut % 2 == 0), cut % 2 == 1])
                planes = np.concatenate([(cut > 0)[None], hv, classes]).astype(np.float32)
                s = self.stride
                grid = Box(y // s, x // s, -(-h // s), -(-w // s))
                features = np.ones((self.width, grid.height, grid.width), np.float32)
                yield RegionMaps(box, planes, features, grid)


def test_what_comes_after_the_network_is_a_small_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tissueseg.command import run_command
    from tissueseg.predict import predict
    from tissueseg.prediction import Predictor

    labels, run = nuclei(), trained(tmp_path, CHANNELS)
    store = write(tmp_path / "large.zarr", labels, CHANNELS, labelled=False)
    spent = SimpleNamespace(maps=0.0)

    def perfect(self: Predictor, tissue: str) -> PerfectMaps:
        width, stride = self.encoder.spec.channels[-1], self.encoder.stride_px
        return PerfectMaps(labels, self.region_px, width, stride)

    monkeypatch.setattr(Predictor, "_maps", perfect)
    words = [f"run={run}", f"store.path={store}", f"out={tmp_path / 'out'}", "workers=0"]
    monkeypatch.setattr(sys, "argv", ["tissueseg.predict", *words])
    start = time.perf_counter()
    run_command("predict", predict)
    after = time.perf_counter() - start
    cells = json.loads((tmp_path / "out/t/prediction.json").read_text())["summary"]["cells"]
    found = sum(kind["cells"] for kind in cells["types"])
    maps = PerfectMaps(labels, 960, 16, 8)
    start = time.perf_counter()
    for _ in maps.regions("t", (SIDE, SIDE)):
        pass
    spent.maps = time.perf_counter() - start  # of making the maps, which no network does
    tiles = len(range(0, SIDE - OVERLAP, TILE - OVERLAP)) ** 2
    whole = tiles * seconds_per_tile()
    share = (after - spent.maps) / whole
    with capsys.disabled():
        print(f"\n{SIDE} × {SIDE} px, {found:,} of {len(np.unique(labels)) - 1:,} nuclei found")
        print(f"  network, {tiles} tiles of {TILE} px: {whole:8.1f} s")
        print(f"  everything else, one process:  {after - spent.maps:8.1f} s = {100 * share:.1f} %")
    assert share <= 0.25


def test_peak_memory_does_not_grow_with_the_tissue(tmp_path: Path) -> None:
    run, peaks = trained(tmp_path, 2), []
    print("\n  tissue       cells   peak, parent or worker   seconds")
    tile = made_nuclei(1200, MPP, "dense")
    for size in SIZES:
        repeats = -(-size // len(tile))
        labels = np.tile(tile, (repeats, repeats))[:size, :size]
        store = write(tmp_path / f"{size}.zarr", labels, 2, labelled=False)
        del labels
        out = tmp_path / f"out{size}"
        words = [f"run={run}", f"store.path={store}", f"out={out}", "workers=1"]
        command = [sys.executable, MEASURE, sys.executable, "-m", "tissueseg.predict", *words]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout))
        stamp = json.loads((out / "t/prediction.json").read_text())
        cells = sum(kind["cells"] for kind in stamp["summary"]["cells"]["types"])
        seconds = time.perf_counter() - start
        print(f"  {size:4d}² {cells:12,d} {peaks[-1]:12.0f} MiB {seconds:19.0f}", flush=True)
    assert max(peaks) <= 1.1 * min(peaks)
