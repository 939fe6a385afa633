"""What grows with a cohort: seconds before the first tile, memory, and the report of many runs.

`pytest -m benchmark tests/benchmarks/test_scale_cohort.py -s` prints the tables; every cohort has a
process of its own. TISSUESEG_COHORTS="10 1000 100000" takes other sizes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cost_model_cohort import EPOCH, bytes_per_tile
from embedding_stores import load
from study_made import write_study

from tissueseg.reporting.records.run_record import read_runs
from tissueseg.reporting.study.compare import Wanted, compare

pytestmark = pytest.mark.benchmark

COHORTS = [int(n) for n in os.environ.get("TISSUESEG_COHORTS", "10 100 1000 10000").split()]
TILES = 40  # of an epoch, where cohorts are compared: as many as the smallest has
SUPERLINEAR = 3.0  # times as long per tissue as in a cohort of a tenth of the size


def looked_at(folder: Path, tissues: int, tiles: int) -> dict[str, Any]:
    script = str(Path(__file__).with_name("cost_model_cohort.py"))
    command = [sys.executable, script, str(folder), str(tissues), str(tiles)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_seconds_and_memory_per_tissue(tmp_path: Path) -> None:
    found = {n: looked_at(tmp_path / str(n), n, TILES) for n in COHORTS}
    steps = list(next(iter(found.values()))["steps"])
    print(f"\nms a tissue; {load()}\n  {'tissues':<28}" + "".join(f"{n:>10d}" for n in COHORTS))
    for step in (s for s in steps if s != EPOCH):
        per = [1e3 * of["steps"][step][0] / of["steps"][step][2] for of in found.values()]
        grows = "  > 1 ms" if per[-1] > 1 else ""
        pairs = pairwise(per)
        grows += "  super-linear" if any(b > max(SUPERLINEAR * a, 0.1) for a, b in pairs) else ""
        print(f"  {step:<28}" + "".join(f"{ms:10.4f}" for ms in per) + grows)
    print("  " + "resident, MiB".ljust(28), end="")
    print("".join(f"{of['resident'] / 2**20:10.0f}" for of in found.values()))
    whole = [sum(s for s, _, _ in of["steps"].values()) for of in found.values()]
    print("  " + "all steps, seconds".ljust(28) + "".join(f"{s:10.1f}" for s in whole))
    added = found[COHORTS[-1]]["resident"] - found[COHORTS[0]]["resident"]
    assert added / COHORTS[-1] < 100_000  # bytes a tissue, which no image would fit into


def test_memory_of_an_epoch_does_not_grow_with_the_cohort(tmp_path: Path) -> None:
    """Four tiles a tissue, so the larger cohort also reads more; arrays that stay open are limited."""
    cohorts, tiles = (10, 1000), 1000
    found = {}
    print(
        f"\nan epoch of at most {tiles} tiles; {load()}\n  tissues   resident after it   added by it"
    )
    for n in cohorts:
        of = looked_at(tmp_path / str(n), n, tiles)
        found[n] = of["resident"]
        added = of["steps"][EPOCH][1] / 2**20
        print(f"  {n:7d} {of['resident'] / 2**20:15.0f} MiB {added:9.0f} MiB", flush=True)
    assert found[1000] <= 1.15 * found[10]


def test_bytes_that_the_order_of_an_epoch_takes() -> None:
    tiles = 1_000_000
    print("\nbytes a tile, but for what torch allocates\n                    held    for a moment")
    for name, (held, most) in bytes_per_tile(tiles).items():
        print(f"  {name:<16} {held:4d} {most:14d}")
        assert held <= 32


@pytest.mark.parametrize(
    ("seeds", "tissues"), [(2, 4), (6, 4), (18, 4), (6, 40), (6, 400)], ids=lambda n: str(n)
)
def test_a_report_of_many_runs(tmp_path: Path, seeds: int, tissues: int) -> None:
    arms = {"baseline": 0.0, "better": 0.05, "same": 0.0}
    study = write_study(tmp_path / "study", arms, seeds=range(seeds), tissues=tissues)
    begun = time.perf_counter()
    records, unfinished = read_runs([study])
    read_s = time.perf_counter() - begun
    compare(records, unfinished, Wanted(), "")
    whole_s = time.perf_counter() - begun
    print(
        f"\n  {len(records):4d} runs on {tissues:4d} test tissues: read {read_s:6.2f} s, compared "
        f"{whole_s - read_s:6.2f} s; {load()}"
    )
    assert len(records) == 6 * seeds
