"""A store comes about whole or not at all, and what a dead writer finished is not done again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from folders import same_files
from stores import CLASSES, PANEL, random_tissue

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Tissue
from tissueseg.store.provenance import Stamps
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter


class Stop(BaseException):
    """What neither we nor the user meant."""


def write(
    path: Path, stop_after: int | None = None, seeds: str = "012", **options: Any
) -> list[str]:
    """Write three tissues `t0` …; the names of those written anew."""
    given: dict[str, Any] = {"mpp": 0.5, "classes": CLASSES, "panel": PANEL, "resume": True}
    written, files = [], {f"t{i}": {"file": path.parent / f"{i}.txt"} for i in range(len(seeds))}
    for seed, named in zip(seeds, files.values(), strict=True):
        named["file"].exists() or named["file"].write_text(seed)
    stamps = Stamps(files)
    with TissueWriter(path, **(given | options)) as writer:
        for i, (name, seed) in enumerate(zip(files, seeds, strict=True)):
            if i == stop_after:
                raise Stop
            if not writer.kept(name, stamps):
                writer.add(name, tissue(int(seed)), files[name], stamps)
                written.append(name)
    return written


def tissue(seed: int) -> Tissue:
    return random_tissue(seed=seed)


def test_a_stopped_writer_is_gone_on_with(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    stopped, straight = tmp_path / "one/s.zarr", tmp_path / "two/s.zarr"
    with pytest.raises(Stop) as caught:
        write(stopped, stop_after=2)
    assert "2 tissues are finished already and kept in" in caught.value.__notes__[0]
    assert not stopped.exists()
    assert write(stopped) == ["t2"]
    assert write(straight) == ["t0", "t1", "t2"]
    assert same_files(stopped, straight)
    assert sorted(p.name for p in stopped.parent.iterdir()) == ["0.txt", "1.txt", "2.txt", "s.zarr"]


def test_a_tissue_whose_files_changed_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "s.zarr", stop_after=2)
    os.utime(tmp_path / "0.txt", ns=(1, 1))
    assert write(tmp_path / "s.zarr") == ["t0", "t2"]
    with pytest.raises(Stop):
        write(tmp_path / "s2.zarr", stop_after=2)
    (tmp_path / "1.txt").write_text("longer")
    assert write(tmp_path / "s2.zarr") == ["t1", "t2"]


@pytest.mark.parametrize(
    "change", [{"mpp": 0.25}, {"classes": CLASSES[:2]}, {"recipe": {"untyped": "ignore"}}]
)
def test_another_recipe_starts_afresh(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "s.zarr", stop_after=2)
    with pytest.raises((Stop, TissueDataError)):
        write(tmp_path / "s.zarr", stop_after=0, **change)
    assert write(tmp_path / "s.zarr") == ["t0", "t1", "t2"]


def test_tissues_that_are_no_longer_wanted_are_gone(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "s.zarr", stop_after=2)
    assert write(tmp_path / "s.zarr", seeds="0") == []
    assert sorted(p.name for p in (tmp_path / "s.zarr").iterdir()) == ["t0", "zarr.json"]


def test_a_half_written_tissue_is_never_read(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "s.zarr", stop_after=2)
    notes = tmp_path / ".s.zarr.partial.notes/finished"
    (notes / "t1.json").rename(notes / "t1.json.draft")
    assert write(tmp_path / "s.zarr") == ["t1", "t2"]


def test_damaged_notes_start_afresh(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        write(tmp_path / "s.zarr", stop_after=2)
    (tmp_path / ".s.zarr.partial.notes/finished/t1.json").write_text("{")
    assert write(tmp_path / "s.zarr") == ["t0", "t1", "t2"]


def test_two_writers_of_one_store_are_one_too_many(tmp_path: Path) -> None:
    given: dict[str, Any] = {"mpp": 0.5, "classes": CLASSES, "panel": PANEL, "resume": True}
    with TissueWriter(tmp_path / "s.zarr", **given) as writer:
        writer.add("t0", tissue(0))
        with (
            pytest.raises(TissueDataError, match="another process is writing"),
            TissueWriter(tmp_path / "s.zarr", **given),
        ):
            pass
    assert TissueStore(tmp_path / "s.zarr").tissues == ("t0",)
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


def test_a_store_set_aside_by_a_writer_that_died_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    (tmp_path / "s.zarr").rename(tmp_path / ".s.zarr.old")
    with pytest.raises(Stop):
        write(tmp_path / "s.zarr", stop_after=0, overwrite=True)
    assert TissueStore(tmp_path / "s.zarr").tissues == ("t0", "t1", "t2")


def test_the_former_store_stands_until_the_new_one_is_complete(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", seeds="0")
    with pytest.raises(Stop):
        write(tmp_path / "s.zarr", stop_after=2, overwrite=True)
    assert TissueStore(tmp_path / "s.zarr").tissues == ("t0",)
    assert write(tmp_path / "s.zarr", overwrite=True) == ["t2"]
    assert TissueStore(tmp_path / "s.zarr").tissues == ("t0", "t1", "t2")


def test_a_full_disk_is_one_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tissueseg.store.writer.ingest", ingest_until("t1", full))
        with pytest.raises(TissueDataError, match=r"cannot write tissue t1 .*No space") as caught:
            write(tmp_path / "s.zarr")
    assert "\n" not in str(caught.value)
    assert "1 tissue is finished already" in caught.value.__notes__[0]
    assert not (tmp_path / "s.zarr").exists()
    assert write(tmp_path / "s.zarr") == ["t1", "t2"]


def test_files_that_change_while_they_are_read_are_refused(tmp_path: Path) -> None:
    """What is made of them is neither the old nor the new."""
    file = tmp_path / "0.txt"
    file.write_text("before")
    stamps = Stamps({"t0": {"file": file}})
    file.write_text("after it was seen")
    given: dict[str, Any] = {"mpp": 0.5, "classes": CLASSES, "panel": PANEL, "resume": True}
    with (
        pytest.raises(TissueDataError, match=r"tissue t0: .*0\.txt changed while it was read"),
        TissueWriter(tmp_path / "s.zarr", **given) as writer,
    ):
        writer.add("t0", tissue(0), {"file": file}, stamps)
    assert [p.name for p in tmp_path.iterdir()] == ["0.txt"]


def test_a_store_that_cannot_take_its_place_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr("tissueseg.store.hidden_folder.HiddenFolder.publish", fail)
        with pytest.raises(TissueDataError, match="Invalid cross-device link") as caught:
            write(tmp_path / "s.zarr")
    assert "3 tissues are finished already" in caught.value.__notes__[0]
    assert write(tmp_path / "s.zarr") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.txt", "1.txt", "2.txt", "s.zarr"]


def test_a_store_that_comes_back_is_not_overwritten_unasked(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    (tmp_path / "s.zarr").rename(tmp_path / ".s.zarr.old")
    with pytest.raises(TissueDataError, match="exists already"):
        write(tmp_path / "s.zarr", stop_after=0)
    assert TissueStore(tmp_path / "s.zarr").tissues == ("t0", "t1", "t2")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "large_disk").mkdir()
    link = tmp_path / "s.zarr"
    link.symlink_to(tmp_path / "large_disk/s.zarr")
    write(link)
    write(link, overwrite=True, seeds="0")
    assert link.is_symlink()
    assert TissueStore(tmp_path / "large_disk/s.zarr").tissues == ("t0",)
    assert [p.name for p in (tmp_path / "large_disk").iterdir()] == ["s.zarr"]


def test_what_a_killed_process_of_its_own_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = f".s.zarr.partial-{platform.node()}"
    for name in (f"{mine}-{gone.pid}", f"{mine}-{os.getppid()}", ".s.zarr.partial-elsewhere-1"):
        (tmp_path / name).mkdir()
    write(tmp_path / "s.zarr", resume=False)
    left = sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name)
    assert left == sorted([f"{mine}-{os.getppid()}", ".s.zarr.partial-elsewhere-1"])


def ingest_until(name: str, fail: Any) -> Any:
    from tissueseg.store.ingest import ingest

    return lambda group, tissue, *rest: (fail if tissue == name else ingest)(group, tissue, *rest)
