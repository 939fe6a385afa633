"""Peak memory of `embed` and of training on what it stored, which must not grow with the tissues.

`pytest -m benchmark tests/benchmarks/test_memory.py -s` prints the table. Every command is a process of
its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stores import random_tissue, write_store

pytestmark = pytest.mark.benchmark

COUNTS, SIZE_PX = (4, 16, 64), 256


def peak_mib(folder: Path, command: str, *overrides: str) -> float:
    script = str(Path(__file__).with_name("measure_memory.py"))
    done = subprocess.run(
        [sys.executable, script, sys.executable, "-m", f"tissueseg.{command}", *overrides],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def peaks(folder: Path, count: int) -> tuple[float, float]:
    """Of `embed` and of two epochs."""
    tissues = {
        f"t{i:03d}": random_tissue(SIZE_PX, SIZE_PX, i, patient=f"p{i}") for i in range(count)
    }
    write_store(folder / "tissues.zarr", tissues)
    words = (
        "setting=untrained",
        "logger=csv",
        "store.path=tissues.zarr",
        f"split={{train: {count // 2}, val: {count // 4}, test: {count // 4}}}",
        "epochs=2",
        "run_dir=run",
        "data.tile_px=64",
        "views=4",
    )
    embedding = peak_mib(folder, "embed", *words)
    return embedding, peak_mib(folder, "train", *words, "features=stored")


def test_peak_memory_does_not_grow_with_the_tissues(tmp_path: Path) -> None:
    print(
        f"\npeak memory, tissues of {SIZE_PX} px\n  {'tissues':>7} {'embed':>9} {'train':>9}  MiB"
    )
    found = []
    for count in COUNTS:
        folder = tmp_path / str(count)
        folder.mkdir()
        found.append(peaks(folder, count))
        print(f"  {count:7d} {found[-1][0]:9.0f} {found[-1][1]:9.0f}", flush=True)
    for command in zip(*found, strict=True):
        assert max(command) <= 1.1 * min(command)
