"""What looks wrong in a store: at the end of `prepare`, and by `doctor store=PATH`."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import shown
from PIL import Image
from slide_folders import SlideFolder, draw_slide
from stores import write_store

from tissueseg.store.demo import CLASSES, PANEL, DemoParameters, draw_tissue
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def drawn() -> Tissue:
    tissue = draw_tissue(DemoParameters(size_px=384), 0)
    return Tissue(tissue.instances, tissue.classes, tissue.he, tissue.sp)


@pytest.fixture
def shifted(drawn: Tissue) -> Tissue:
    """Its H&E lies 8 px, 4 µm, to the right."""
    assert drawn.he is not None
    return drawn._replace(he=np.roll(drawn.he, 8, axis=2))


def demo(path: Path, **tissues: Tissue) -> TissueStore:
    return write_store(path, tissues, CLASSES, PANEL)


def test_prepare_leaves_a_table_and_pictures(
    image_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("prepare", "source.path=images", "out=cohort.zarr")
    assert (result.code, result.err) == (0, "")
    assert "look at cohort_check/contact_sheet_01.png" in result.out
    with (tmp_path / "cohort_check/summary.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(row["tissue"], row["cells"]) for row in rows] == [("a", "30"), ("b", "30")]
    with Image.open(tmp_path / "cohort_check/contact_sheet_01.png") as sheet:
        assert sheet.width > 4 * 256
    result = command("prepare", "source.path=images", "out=other.zarr", "check=false")
    assert not (tmp_path / "other_check").exists()


def test_doctor_finds_what_was_planted(
    drawn: Tissue, shifted: Tissue, tmp_path: Path, command: Command
) -> None:
    demo(tmp_path / "s.zarr", shifted=shifted, copy=drawn._replace(patient="p"))
    result = command("doctor", f"store={tmp_path / 's.zarr'}")
    assert (result.code, result.err) == (1, "")
    text = " ".join(result.out.split())
    assert "H&E against SP: shift of more than 2 µm in tissue shifted: 4" in text
    assert "one SP image in tissues copy, shifted of 2 patients" in text
    assert "warnings; look at" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr", "s_check"]
    assert shown(tmp_path / "s_check") == ["contact_sheet_01.png", "summary.csv"]


def test_doctor_is_content_with_a_healthy_store(
    drawn: Tissue, tmp_path: Path, command: Command
) -> None:
    other = draw_tissue(DemoParameters(size_px=384), 1)
    demo(
        tmp_path / "s.zarr",
        a=drawn,
        b=Tissue(other.instances, other.classes, other.he, other.sp),
    )
    result = command("doctor", f"store={tmp_path / 's.zarr'}")
    found = [line for line in result.out.splitlines() if line.startswith("warning: ")]
    kinds = {line.split(":")[1].strip() for line in found}
    assert kinds <= {"classes"}  # two small tissues lack the rarest types


def test_doctor_of_no_store_is_one_line(tmp_path: Path, command: Command) -> None:
    result = command("doctor", f"store={tmp_path / 'none.zarr'}")
    assert result.code == 2
    assert result.err.startswith("error: no tissue store at")


def test_classes_are_mapped_and_pixels_resampled(
    image_folder: Any, tmp_path: Path, command: Command
) -> None:
    given = (f"source.path={image_folder.path}", f"out={tmp_path / 's.zarr'}", "check=false")
    result = command("prepare", *given, "mpp=1", "class_map={merge: {cell: [tumor, immune]}}")
    assert (result.code, result.err) == (0, "")
    store = TissueStore(tmp_path / "s.zarr")
    assert (store.mpp, [c.name for c in store.classes]) == (1.0, ["background", "cell"])
    assert store.entry("a")[2:4] == (20, 24)
    assert store.attributes("a")["instances_per_class"] == [0, 30, 0]
    assert "resampled from 0.5 to 1 µm/px (tissues a, b)" in result.out


def test_a_class_map_may_be_a_file(image_folder: Any, tmp_path: Path, command: Command) -> None:
    (tmp_path / "map.yaml").write_text("unknown: immune\nrename: {tumor: neoplastic}\n")
    given = (f"source.path={image_folder.path}", f"out={tmp_path / 's.zarr'}", "check=false")
    result = command("prepare", *given, f"class_map={tmp_path / 'map.yaml'}")
    assert (result.code, result.err) == (0, "")
    store = TissueStore(tmp_path / "s.zarr")
    assert [c.name for c in store.classes] == ["background", "neoplastic"]
    assert store.attributes("a")["instances_per_class"] == [0, 15, 15]
    assert "30 instances of unknown type, class immune (tissues a, b)" in result.out


def test_splits_of_the_source_reach_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = SlideFolder(tmp_path / "slides")
    for seed, name in enumerate("abc"):
        folder.add(name, draw_slide(96, 96, seed))
    folder.write("slides.csv", "id,split", "a,train", "b,val", "c,train")
    folder.describe(slides="slides.csv")
    given = ("source=orion", "source.path=slides", "out=s.zarr", "check=false")
    assert command("prepare", *given).code == 0
    given = ("store.path=s.zarr", "data.tile_px=32", "split=column", "class_weights=null")
    result = command("doctor", *given)
    assert "2 train, 1 val, 0 test" in result.out
    result = command("doctor", *given, "split.val=[test]")
    assert "tissue b is in 'val' of its source, which stands under no side" in result.out
    assert result.code == 1


def test_doctor_says_in_one_line_that_a_store_is_damaged(
    drawn: Tissue, tmp_path: Path, command: Command
) -> None:
    demo(tmp_path / "s.zarr", a=drawn)
    shutil.rmtree(tmp_path / "s.zarr/a/sp")
    result = command("doctor", f"store={tmp_path / 's.zarr'}")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.endswith("is damaged: tissue a has no sp. Prepare it again.\n")
    assert not (tmp_path / "s_check").exists()


def test_doctor_warns_of_a_shard_that_is_lost_and_refuses_one_that_is_broken(
    drawn: Tissue, tmp_path: Path, command: Command
) -> None:
    demo(tmp_path / "s.zarr", a=drawn)
    (shard,) = [p for p in (tmp_path / "s.zarr/a/labels/classes/0/c").rglob("*") if p.is_file()]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9])
    result = command("doctor", f"store={tmp_path / 's.zarr'}")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert result.err.startswith("error: tissue a: labels/classes of ")
    shard.unlink()
    result = command("doctor", f"store={tmp_path / 's.zarr'}")
    assert (result.code, result.err) == (1, "")
    assert "pixels that differ from those prepared in tissue a: classes; " in result.out


def test_the_store_one_stands_in_can_be_checked(
    drawn: Tissue, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo(tmp_path / "s.zarr", a=drawn)
    monkeypatch.chdir(tmp_path / "s.zarr")
    assert command("doctor", "store=.").err == ""
    assert shown(tmp_path) == ["s.zarr", "s_check"]
