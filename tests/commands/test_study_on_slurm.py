"""A study as a SLURM array: what is submitted, with a queue of shell scripts that stands for SLURM."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="a shell stands for SLURM"),
]

SBATCH = """#!/bin/bash
script="${@: -1}"
cp "$script" "$QUEUE/script.sh"
tasks=$(sed -n 's/^#SBATCH --array=\\([0-9]*\\)-\\([0-9]*\\).*/\\1 \\2/p' "$script")
echo "Submitted batch job 7"
(
for task in $(seq ${tasks:-0 0}); do
  SLURM_JOB_ID=$((7 + task)) SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_PROCID=0 \\
  SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=node \\
  bash "$script"
done
) > "$QUEUE/out" 2>&1 &
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do
  if [[ "$1" == --output ]]; then shift; fi
  shift
done
exec "$@"
"""
SACCT = """#!/bin/bash
echo "JobID|State"
for task in 0 1 2 3; do echo "7_$task|RUNNING"; done
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stand-ins for SLURM's commands, first on PATH."""
    pytest.importorskip("submitit", reason="the extra cluster")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(tmp_path))
    return tmp_path


def test_an_array_with_a_job_a_run(queue: Path, demo_cache: Path) -> None:
    words = ["+study=gating", "+debug=fast", "logger=csv", "epochs=1", "seed=0"]
    words += ["study.arm=baseline,boundary", "split.fold=1"]
    words += ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.mem_gb=32"]
    done = subprocess.run(
        [sys.executable, "-m", "tissueseg.train", "-m", *words],
        capture_output=True,
        text=True,
        cwd=queue,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + (queue / "out").read_text()
    script = (queue / "script.sh").read_text()
    for option in (
        "array=0-1%2",
        "partition=gpu",
        "gpus-per-node=1",
        "cpus-per-task=8",
        "mem=32GB",
    ):
        assert f"#SBATCH --{option}\n" in script
    assert "2 runs finished" in done.stdout
    study = queue / "runs/studies/gating-demo"
    records = {p.stem: json.loads(p.read_text()) for p in (study / "jobs").glob("*.json")}
    assert {name: r["state"] for name, r in records.items()} == {
        "baseline.fold_1-seed_0": "finished",
        "boundary.fold_1-seed_0": "finished",
    }
    assert len(list(study.glob("*/*/metrics.json"))) == 2
    assert not re.search("Traceback", done.stdout + done.stderr)
