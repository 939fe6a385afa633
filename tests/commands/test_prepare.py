"""`python -m tissueseg.prepare`: the store is there or one line says why not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import shown
from omegaconf import OmegaConf

from tissueseg.errors import TissuesegError
from tissueseg.prepare import prepare
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_here(folder: Any, where: Path, **changes: Any) -> None:
    """The command's job without the start of a process."""
    source = {"_target_": "tissueseg.store.sources.folder.FolderSource", "path": str(folder.path)}
    given = {"out": str(where), "overwrite": False, "check": False, "mpp": None, "class_map": None}
    config = given | {"source": source | {"description": None}}
    prepare(OmegaConf.create(config | changes))


def test_command_writes_a_store_and_says_what_is_in_it(
    image_folder: Any, run_cli: Run, tmp_path: Path
) -> None:
    arguments = ("source=folder", "source.path=images", "out=made/cohort.zarr")
    result = run_cli("prepare", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert "wrote 2 tissues to made/cohort.zarr" in result.stdout
    assert "DAPI* P68431, CD3 P07766" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "made"]
    assert TissueStore(tmp_path / "made/cohort.zarr").tissues == ("a", "b")
    again = run_cli("prepare", *arguments)
    assert again.returncode == 2
    assert "exists already" in again.stderr.splitlines()[-1]


def test_command_says_mistakes_in_one_line(image_folder: Any, run_cli: Run, tmp_path: Path) -> None:
    (image_folder.path / "b.sp.tif").write_bytes(b"II*\0 broken")
    result = run_cli("prepare", "source=folder", "source.path=images", "out=cohort.zarr")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: images/b.sp.tif cannot be read")
    assert "Traceback" not in result.stderr
    assert shown(tmp_path) == ["images"]


def test_command_asks_for_what_is_missing(run_cli: Run) -> None:
    result = run_cli("prepare")
    assert result.returncode == 2
    assert result.stderr.endswith("error: give out=…, source.path=… on the command line.\n")


def test_command_needs_no_torch() -> None:
    code = "import sys, tissueseg.prepare, tissueseg.store.sources.folder; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_out_must_be_free_and_writable(image_folder: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out, said in (
        (tmp_path / "file", "exists already"),
        (tmp_path / "file" / "s", "cannot write"),
    ):
        with pytest.raises(TissuesegError, match=said) as caught:
            run_here(image_folder, out)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "images"]


@pytest.mark.parametrize("change", [{"out": None}, {"out": "."}, {"overwrite": "maybe"}])
def test_values_that_cannot_be_meant_are_refused(
    change: dict[str, Any], image_folder: Any, tmp_path: Path
) -> None:
    with pytest.raises(TissuesegError):
        run_here(image_folder, tmp_path / "s.zarr", **change)
    assert shown(tmp_path) == ["images"]


def test_folders_made_for_a_store_that_failed_are_gone(image_folder: Any, tmp_path: Path) -> None:
    (image_folder.path / "a.he.png").write_bytes(b"damaged")
    with pytest.raises(TissuesegError, match=r"a\.he\.png"):
        run_here(image_folder, tmp_path / "x/y/s.zarr")
    assert shown(tmp_path) == ["images"]


def test_store_is_replaced_only_when_complete(image_folder: Any, tmp_path: Path) -> None:
    run_here(image_folder, tmp_path / "s.zarr")
    image_folder.describe(tissues=["b"])
    healthy = (image_folder.path / "b.he.png").read_bytes()
    (image_folder.path / "b.he.png").write_bytes(healthy[:50])
    with pytest.raises(TissuesegError, match=r"b\.he\.png"):
        run_here(image_folder, tmp_path / "s.zarr", overwrite=True)
    assert TissueStore(tmp_path / "s.zarr").tissues == ("a", "b")
    (image_folder.path / "b.he.png").write_bytes(healthy)
    run_here(image_folder, tmp_path / "s.zarr", overwrite=True)
    assert TissueStore(tmp_path / "s.zarr").tissues == ("b",)
    assert shown(tmp_path) == ["images", "s.zarr"]


def test_channel_without_variance_is_said_once(
    image_folder: Any,
    make_tissue: Callable[..., Tissue],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flat = np.stack([np.arange(40 * 48).reshape(40, 48), np.zeros((40, 48))]).astype(np.uint16)
    for name in ("a", "b"):
        image_folder.add(name, make_tissue(sp=flat))
    run_here(image_folder, tmp_path / "s.zarr", check=True)
    said = [line for line in capsys.readouterr().out.splitlines() if "no variance" in line]
    assert len(said) == 1
    assert "channel CD3" in said[0]
    assert "2 of 2 (tissues a, b)" in said[0]


def test_summary_counts_what_is_there(
    image_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder.describe(patient="^(.)", **image_folder.only_he())
    run_here(image_folder, tmp_path / "s.zarr")
    text = " ".join(capsys.readouterr().out.split())
    assert "2, patients 2" in text
    assert "40 × 48 px at 0.5 µm/px" in text
    assert "immune │ 28.1% │ 30" in text


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_stands_in_the_way_of_the_check_is_said_before_the_work(
    image_folder: Any, tmp_path: Path, kind: str
) -> None:
    taken = tmp_path / "s_check"
    taken.write_text("x") if kind == "file" else taken.symlink_to(tmp_path / "nowhere")
    with pytest.raises(TissuesegError, match=r"s_check is to hold the table .* move it") as caught:
        run_here(image_folder, tmp_path / "s.zarr", check=True)
    assert "\n" not in str(caught.value)
    assert shown(tmp_path) == ["images", "s_check"]
    run_here(image_folder, tmp_path / "s.zarr")  # without a check nothing is in the way
    assert shown(tmp_path) == ["images", "s.zarr", "s_check"]


def test_a_check_folder_that_cannot_be_written_is_said_before_the_work(
    image_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s_check").mkdir()

    def refuse(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(TissuesegError, match=r"cannot be written \(Read-only file system\): "):
        run_here(image_folder, tmp_path / "s.zarr", check=True)
    assert shown(tmp_path) == ["images", "s_check"]
