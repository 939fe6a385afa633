"""A whole slide into a store: MB/s against a plain copy in the same run, and peak memory.

`pytest -m benchmark tests/benchmarks/test_ingest.py -s` takes a slide of 20 000 × 20 000 px with 16
channels (12.8 GB of pixels; some 30 GB of disk for a while); TISSUESEG_SLIDE_PX and
TISSUESEG_SLIDE_CHANNELS make it smaller or larger, TISSUESEG_SLIDE_FILLED leaves rows empty.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from slides import write_slide

pytestmark = pytest.mark.benchmark

SIDE_PX = int(os.environ.get("TISSUESEG_SLIDE_PX", "20000"))
CHANNELS = int(os.environ.get("TISSUESEG_SLIDE_CHANNELS", "16"))
FILLED = float(os.environ.get("TISSUESEG_SLIDE_FILLED", "1"))


class Cost(NamedTuple):
    seconds: float
    peak_gib: float


def run(*command: str, cwd: Path) -> Cost:
    """Time and peak memory of a process of its own."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], cwd=cwd, stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Cost(time.perf_counter() - begun, usage.ru_maxrss / 2**20)


def test_slide_against_a_plain_copy(tmp_path: Path) -> None:
    write_slide(tmp_path, SIDE_PX, CHANNELS, FILLED)
    megabytes = SIDE_PX**2 * CHANNELS * 2 / 1e6
    script = str(Path(__file__).with_name("copy_slide.py"))
    given = ("source=orion", "source.path=.", "out=slide.zarr", "overwrite=true")
    jobs = {
        "plain copy, tifffile -> zarr": (script, "slide.ome.tif", "copy.zarr"),
        "prepare check=false": ("-m", "tissueseg.prepare", *given, "check=false"),
        "prepare": ("-m", "tissueseg.prepare", *given),
    }
    print(f"\n{SIDE_PX}² px, {CHANNELS} channels of 16 bits: {megabytes:.0f} MB of pixels")
    rate = {}
    for name, job in jobs.items():
        cost = run(*job, cwd=tmp_path)
        rate[name] = megabytes / cost.seconds
        share = rate[name] / next(iter(rate.values()))
        print(
            f"{name:<30} {cost.seconds:7.1f} s {rate[name]:7.0f} MB/s {cost.peak_gib:5.2f} GiB  "
            f"{share:.2f} × the copy"
        )
        shutil.rmtree(tmp_path / "copy.zarr", ignore_errors=True)
        assert cost.peak_gib < 2  # whatever the slide's size
