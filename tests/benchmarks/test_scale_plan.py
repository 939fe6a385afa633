"""What 10, 1 000 and 100 000 tissues need in disk, hours and GPUs: arithmetic on counted operations.

`pytest -m benchmark tests/benchmarks/test_scale_plan.py -s` prints the tables of `slurm/README.md`. Bytes
are exact but for how images compress; CPU seconds are measured here; GPU hours are derived, from
operations per tile at an assumed share of a GPU's peak. TISSUESEG_EFFICIENCY=0.2 assumes another.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import cost_model_runs as runs
from cost_model import Cohort, Encoding, Size, readable
from cost_model_flops import Work, built, work
from embedding_stores import load

from tissueseg import assembly
from tissueseg.data.splits import Split
from tissueseg.store.embedding_writer import Grid
from tissueseg.store.tissues import TissueStore

pytestmark = pytest.mark.benchmark

COHORTS = [Cohort(n) for n in (10, 1_000, 100_000)]
SHARES = {"he": 0.77, "sp": 0.53, "instances": 0.04, "classes": 0.05}  # test_scale.py: drawn tissue
PEAK_FLOPS = 990e12  # of an H200 or H100 in bfloat16, dense; NVIDIA's data sheets
EFFICIENCY = float(os.environ.get("TISSUESEG_EFFICIENCY", "0.4"))
EPOCHS, TRAIN, VAL = (
    100,
    0.6,
    0.2,
)  # protocol=full: five folds, of which three train and one chooses
STUDY_RUNS = 105  # 7 arms × 5 folds × 3 seeds
DAY_H, HOUR_S = 24, 3600
CORES = 16  # beside a GPU, which read for it
READ_S = float(os.environ.get("TISSUESEG_READ_S", "0.0063"))  # of a core for a tile; measured below


class Setting(NamedTuple):
    """An encoder as a cohort of 0.5 µm/px meets it."""

    encoder: str
    tile_px: int
    width: int  # features of a token
    options: tuple[str, ...] = ()
    title: str = ""

    @property
    def name(self) -> str:
        return self.title or self.encoder

    def encoding(self, of: Work) -> Encoding:
        tokens = self.tile_px // of.stride_px
        return Encoding(self.name, self.tile_px, Grid(4, tokens, tokens, self.width), 1)


SETTINGS = (
    Setting("virtues", 128, 512),
    Setting("virtues", 120, 512, ("encoder.mpp=null",), "virtues, mpp=null"),
    Setting("cellvit_256", 128, 384),
    Setting("cellvit_sam_h", 128, 1280),
)


class Need(NamedTuple):
    """What a cohort needs with one encoder."""

    features_bytes: tuple[int, int]  # 1 and 8 views
    embed_h: float  # GPU hours for one view
    run_h: float  # GPU hours of a run on stored features
    online_h: float  # of a run that encodes online
    read_h: float  # core hours to read the tiles of a run

    def wait_h(self, run_h: float) -> float:
        """Hours of a run on a GPU with its cores: whatever takes longer."""
        return max(run_h, self.read_h / CORES)

    def gpus(self, run_h: float) -> int:
        """That finish a study of 105 runs in a day."""
        return math.ceil(STUDY_RUNS * self.wait_h(run_h) / DAY_H)


def need(cohort: Cohort, setting: Setting, of: Work) -> Need:
    encoding, rate = setting.encoding(of), PEAK_FLOPS * EFFICIENCY * HOUR_S
    tiles = cohort.train_tiles(setting.tile_px)
    epoch = tiles * (TRAIN * of.train + VAL * of.decode)
    again = tiles * (TRAIN + VAL) * of.encode
    return Need(
        (encoding.cohort_bytes(cohort, 1), encoding.cohort_bytes(cohort, 8)),
        cohort.stored_tiles(setting.tile_px) * of.encode / rate,
        EPOCHS * epoch / rate,
        EPOCHS * (epoch + again) / rate,
        EPOCHS * tiles * (TRAIN + VAL) * READ_S / HOUR_S,
    )


def show_need(cohort: Cohort, setting: Setting, of: Work) -> Need:
    found = need(cohort, setting, of)
    sizes = " / ".join(readable(size) for size in found.features_bytes)
    run, online = (found.wait_h(h) for h in (found.run_h, found.online_h))
    print(
        f"  {cohort.tissues:7d} {setting.name:<18} {sizes:>18}  embed {hours(found.embed_h)} / "
        f"{hours(8 * found.embed_h)} GPU h  run {hours(found.run_h)}, online {hours(found.online_h)} "
        f"GPU h, reading {hours(found.read_h)} core h: takes {hours(run)}, online {hours(online)} h  "
        f"study {hours(STUDY_RUNS * run)} h, GPUs for a day {found.gpus(found.run_h)}, online "
        f"{found.gpus(found.online_h)}"
    )
    return found


def hours(count: float) -> str:
    return f"{count:.3g}" if count < 1000 else f"{count:,.0f}"


def test_disk_hours_and_gpus() -> None:
    counted = [work(s.encoder, s.tile_px, 16, *s.options) for s in SETTINGS]
    print(f"\nderived at {EFFICIENCY:.0%} of {PEAK_FLOPS / 1e12:.0f} TFLOP/s, not measured")
    for cohort in COHORTS:
        raw, stored = cohort.raw_bytes(), cohort.stored_bytes(SHARES)
        print(
            f"  {cohort.tissues:7d} tissues: images {readable(raw)} raw, {readable(stored)} stored"
        )
    for setting, of in zip(SETTINGS, counted, strict=True):
        rate = PEAK_FLOPS * EFFICIENCY / of.train
        tile = setting.encoding(of).tile_bytes()
        again = PEAK_FLOPS * EFFICIENCY / of.encode
        print(
            f"  {setting.name:<18} a tile of {setting.tile_px} px: {of.encode / 1e9:6.1f} GFLOP to "
            f"encode, {of.train / 1e9:5.1f} to train on, {readable(tile)} stored; a GPU trains on "
            f"{rate:,.0f} tiles/s = {readable(rate * tile)}/s, encodes {again:,.0f}/s = "
            f"{readable(again * tile)}/s; {CORES} cores read {CORES / READ_S:,.0f}"
        )
    for cohort in COHORTS:
        for setting, of in zip(SETTINGS, counted, strict=True):
            found = show_need(cohort, setting, of)
            assert found.online_h > found.run_h > 0


def test_core_seconds_of_a_tile_on_this_cpu() -> None:
    """One thread, float32, of this process's CPU time; the fastest of three."""
    torch.set_num_threads(1)
    print(f"\none core, float32; {load()}")
    for setting in SETTINGS:
        network = built(setting.encoder, setting.tile_px, 16, setting.options)
        image = torch.randn(1, network.data.image_channels, setting.tile_px, setting.tile_px)
        best = min(runs.clock(lambda n=network, x=image: n(x)) for _ in range(3))
        tiles = COHORTS[0]._replace(tissues=1).stored_tiles(setting.tile_px)
        core_h = tiles * best / HOUR_S
        print(f"  {setting.name:<18} {best:7.3f} s a tile, {core_h:7.3f} core hours a tissue")
        del network
        assert best > 0


def test_core_seconds_to_read_a_tile(tmp_path: Path) -> None:
    """What feeds a GPU: SP of 16 channels and masks, decompressed, scaled and made into batches."""
    runs.prepare(tmp_path / "s.zarr", Size(1, 256, 16))
    store = TissueStore(tmp_path / "s.zarr")
    config, source = runs.configured(store, "data.tile_px=128")
    data = assembly.open_data(config, store, Split(store.tissues, store.tissues), source)
    taken, begun = 0, time.process_time()
    for batch in data.train_dataloader():
        taken += len(batch.image)
    core_s = (time.process_time() - begun) / taken
    print(
        f"\n  {1e3 * core_s:.1f} ms of a core for a tile of 128 px: {1 / core_s:.0f} tiles/s; {load()}"
    )
    assert taken == 64
