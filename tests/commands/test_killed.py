"""`prepare` killed at any moment: nothing at the path, and the next run ends with the same bytes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import same_files, shown

from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore

TISSUES = 5


@pytest.fixture
def described(image_folder: Any, make_tissue: Callable[..., Tissue]) -> Any:
    """Tissues large enough that a process can be caught at work."""
    for seed in range(TISSUES):
        image_folder.add("abcde"[seed], make_tissue(640, 640, seed))
    return image_folder


def command(out: str) -> list[str]:
    given = ("source=folder", "source.path=images", f"out={out}", "check=false")
    return [sys.executable, "-m", "tissueseg.prepare", *given]


def kill_when(reached: Callable[[Path], bool], where: Path) -> bool:
    """Start the command and kill it at a moment; whether it was reached before the end."""
    partial = where / ".killed.zarr.partial"
    with subprocess.Popen(command("killed.zarr"), cwd=where, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not reached(partial):
            time.sleep(0.002)
        process.kill()
    return process.returncode != 0


def finished(partial: Path, tissue: str) -> bool:
    return (partial.with_name(f"{partial.name}.notes") / f"finished/{tissue}.json").exists()


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the folder is made": lambda partial: partial.exists(),
    "the first tissue is begun": lambda partial: (partial / "a/sp").exists(),
    "the first tissue is complete": lambda partial: finished(partial, "a"),
    "masks of the third are written": lambda partial: (partial / "c/labels/classes").exists(),
    "the last tissue is begun": lambda partial: (partial / "e/he").exists(),
}


@pytest.mark.slow
def test_killed_at_five_moments_it_ends_as_if_it_never_was(described: Any, tmp_path: Path) -> None:
    subprocess.run(command("straight.zarr"), cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    for moment, reached in MOMENTS.items():
        assert kill_when(reached, tmp_path), moment
        assert shown(tmp_path) == ["images", "straight.zarr"], moment
    subprocess.run(command("killed.zarr"), cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert TissueStore(tmp_path / "killed.zarr").tissues == tuple("abcde")
    assert same_files(tmp_path / "killed.zarr", tmp_path / "straight.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "killed.zarr", "straight.zarr"]
