"""Every encoder of published size: parameters, tiles/s, peak memory and share of the matmul rate.

`pytest -m benchmark tests/benchmarks/test_encoders.py -s` prints the table, on a GPU too where one is at
hand. Each row is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.benchmark

CPU: list[dict[str, Any]] = [
    {"encoder": "cellvit_256", "tile_px": 256, "batch": 4},
    {"encoder": "cellvit_sam_b", "tile_px": 256},
    {"encoder": "cellvit_sam_l", "tile_px": 256},
    {"encoder": "cellvit_sam_h", "tile_px": 256},
    {"encoder": "cellvit_uni", "tile_px": 256},
    {"encoder": "cellvit_virchow", "tile_px": 256},
    {"encoder": "cellvit_virchow2", "tile_px": 256},
    {"encoder": "virtues", "channels": 16},
    {"encoder": "virtues", "channels": 40},
]
GPU: list[dict[str, Any]] = [
    {"encoder": "virtues", "channels": 16, "batch": 64},
    {"encoder": "virtues", "channels": 40, "batch": 32},
    {"encoder": "cellvit_256", "tile_px": 256, "batch": 256},
    {"encoder": "cellvit_sam_h", "tile_px": 256, "batch": 64},
]


def measured(settings: dict[str, Any]) -> dict[str, float]:
    script = Path(__file__).with_name("measure_encoder.py")
    command = [sys.executable, str(script), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def show(settings: dict[str, Any], row: dict[str, float]) -> None:
    name = settings["encoder"] + (f" {settings['channels']} ch" if "channels" in settings else "")
    where = f"{settings.get('device', 'cpu')} {settings.get('dtype', 'float32')}"
    print(
        f"\n{name:<18} {settings.get('tile_px', 128)} px  {where:<14} {row['parameters_m']:7.1f} M  "
        f"{row['gflop_a_tile']:7.1f} GFLOP/tile  {row['tiles_per_s']:8.2f} tiles/s  "
        f"{100 * row['share_of_matmul']:4.0f} % of {row['matmul_gflops']:.0f} GFLOP/s  "
        f"{row['peak_gib']:5.2f} GiB",
        end="",
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", CPU, ids=lambda s: f"{s['encoder']}-{s.get('channels', 3)}")
def test_on_the_cpu(settings: dict[str, Any], dtype: str) -> None:
    row = measured(settings | {"dtype": dtype})
    show(settings | {"dtype": dtype}, row)
    assert row["tiles_per_s"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("settings", GPU, ids=lambda s: f"{s['encoder']}-{s.get('channels', 3)}")
def test_on_a_gpu(settings: dict[str, Any], compiled: bool) -> None:
    whole = settings | {"device": "cuda", "dtype": "bfloat16", "rounds": 10, "compile": compiled}
    row = measured(whole)
    show(whole, row)
    assert row["tiles_per_s"] > 0
