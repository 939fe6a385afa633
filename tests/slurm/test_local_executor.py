"""submitit without SLURM: its local executor runs the jobs of a sweep as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SWEEP = ("-m", "+debug=fast", "logger=csv", "epochs=1", "trainer.limit_train_batches=1")


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("submitit", reason="the extra cluster")
    return subprocess.run(
        [sys.executable, "-m", "tissueseg.train", *SWEEP, "hydra/launcher=submitit_local", *words],
        env=os.environ | {"TISSUESEG_CACHE": str(folder / "cache")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_submitit_runs_the_jobs_of_a_sweep(tmp_path: Path) -> None:
    done = sweep(tmp_path, "run_dir=runs/seed_${seed}", "seed=0,1")
    logs = "".join(path.read_text() for path in tmp_path.glob("runs/sweeps/*/.submitit/*/*log.*"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    for seed in (0, 1):
        run = tmp_path / f"runs/seed_{seed}"
        assert json.loads((run / "metrics.json").read_text())
        assert f"\nseed: {seed}\n" in (run / "config.yaml").read_text()
    assert len(list(tmp_path.glob("runs/sweeps/*/.submitit/*/*_result.pkl"))) == 2


def test_a_job_that_failed_fails_the_sweep(tmp_path: Path) -> None:
    done = sweep(tmp_path, "seed=0", "store.path=missing.zarr")
    assert done.returncode == 2
    assert "error: the job " in done.stderr
    assert "missing.zarr" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
