"""Training by two processes against one, on the same cores: tiles per second and peak memory of each.

`pytest -m benchmark tests/benchmarks/test_ranks.py -s` prints the table. A step has the same tiles in
all rows, so the runs learn the same; `1 process, 2 threads` has the cores that two processes have.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from embedding_stores import load, write_tissues

pytestmark = pytest.mark.benchmark

ROUNDS, BATCH, TILE_PX, CORES = int(os.environ.get("ROUNDS", "1")), 16, 128, 2
WORDS = (
    "setting=untrained",
    "modality=he",
    "store.path=tissues.zarr",
    "split={train: 6, val: 1, test: 1}",
    "encoder=tiny",
    "features=online",
    "class_weights=null",
    f"data.tile_px={TILE_PX}",
    f"data.batch_size={BATCH}",
    "decoder.width=0.125",
    "epochs=2",
    "logger=csv",
    "panels={count: 1, size_px: 64, every_n_epochs: 1000}",
)
ROWS = {
    "1 process, 1 thread": (1, 1),
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
}


def trained(folder: Path, run: str, processes: int, threads: int) -> Mapping[str, Any]:
    """What `cost.json` says of a run, and the CPU seconds of all its processes, their start included."""
    before = cpu_seconds()
    words = [*WORDS, f"run_dir={run}", f"trainer.devices={processes}"]
    done = subprocess.run(
        [sys.executable, "-m", "tissueseg.train", *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    spent = cpu_seconds() - before
    return json.loads((folder / run / "cost.json").read_text()) | {"cpu_s": spent}


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_two_processes_against_one(tmp_path: Path) -> None:
    write_tissues(tmp_path / "tissues.zarr", [f"t{i}" for i in range(8)], 4 * TILE_PX)
    rates: dict[str, list[float]] = {row: [] for row in ROWS}
    found: dict[str, Mapping[str, Any]] = {}
    for turn in range(ROUNDS):
        for row, (processes, threads) in ROWS.items():
            found[row] = trained(tmp_path, f"run_{processes}_{threads}_{turn}", processes, threads)
            rates[row].append(BATCH / found[row]["step_s"])
    base = statistics.median(rates["1 process, 1 thread"])
    print(f"\nsteps of {BATCH} tiles of {TILE_PX} px, {ROUNDS} rounds; {load()}")
    print(f"  {'':<28} tiles/s   × one   peak, each   fit, s   CPU, s")
    for row, of in found.items():
        rate, peak = statistics.median(rates[row]), of["peak_bytes"] / 2**20
        print(
            f"  {row:<28} {rate:7.1f} {rate / base:7.2f} {peak:8.0f} MiB {of['fit_s']:8.1f} "
            f"{of['cpu_s']:8.1f}",
            flush=True,
        )
    assert len({of["steps"] for of in found.values()}) == 1  # the same tiles a step, and an epoch
