"""Tissues without labels as a user meets them: prepared, looked at, encoded, exported; never scored."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from feature_runs import WORDS, encoded, error_line, write_cohort
from slide_folders import SlideFolder, draw_slide
from stores import three_tissues, whole

from tissueseg.contracts import IGNORE
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cohort whose last tissue has no labels."""
    monkeypatch.chdir(tmp_path)
    tissues = three_tissues()
    bare = tissues["c"]._replace(instances=None, classes=None)
    write_cohort(tmp_path, tissues | {"c": bare})
    return tmp_path


def test_a_folder_is_prepared_without_masks_and_classes(
    image_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    image_folder.describe(masks=None, classes=None)
    result = command("prepare", "source.path=images", "out=cohort.zarr")
    assert (result.code, result.err) == (0, "")
    text = " ".join(result.out.split())
    assert "notice: tissues.yaml names no masks: tissues have no labels" in text
    assert "labels │ none" in text
    assert "no labels in tissues a, b: to predict on" in text
    assert "warning: masks" not in text
    store = TissueStore(tmp_path / "cohort.zarr")
    assert store.unlabelled == ("a", "b")
    assert [c.name for c in store.classes] == ["background", "nucleus"]
    assert (whole(store, "a", "classes") == IGNORE).all()
    with (tmp_path / "cohort_check/summary.csv").open() as table:
        assert [(row["cells"], row["classes"]) for row in csv.DictReader(table)] == [("", "")] * 2
    assert (tmp_path / "cohort_check/contact_sheet_01.png").is_file()


def test_classes_may_be_named_without_masks(
    image_folder: Any, tmp_path: Path, command: Command
) -> None:
    """So that predictions fall into the classes of a network."""
    image_folder.describe(masks=None)
    path = tmp_path / "cohort.zarr"
    source = f"source.path={image_folder.path}"
    assert command("prepare", source, f"out={path}", "mpp=0.7", "check=false").code == 0
    store = TissueStore(path)
    assert [c.name for c in store.classes] == ["background", "tumor", "immune"]
    assert (store.mpp, store.unlabelled) == (0.7, ("a", "b"))


def test_masks_that_are_named_must_name_instances(
    image_folder: Any, tmp_path: Path, command: Command
) -> None:
    image_folder.describe(masks={})
    result = command("prepare", f"source.path={image_folder.path}", f"out={tmp_path / 'c.zarr'}")
    assert "masks.instances is missing" in error_line(result)


@pytest.mark.parametrize("listed", [False, True])
def test_slides_are_prepared_without_masks(listed: bool, tmp_path: Path, command: Command) -> None:
    folder, slide = SlideFolder(tmp_path / "slides"), draw_slide(150, 140)
    folder.save_he("a", slide.he)
    folder.save_sp("a", slide.sp)
    regions = {"regions": {"size_px": 100}, "masks": None, "classes": None}
    if listed:
        folder.write("slides.csv", "id,he,sp", "a,a.he.ome.tif,a.sp.ome.tif")
        regions |= {"slides": "slides.csv", "images": None}
    folder.describe(**regions)
    path = tmp_path / "s.zarr"
    result = command("prepare", "source=orion", f"source.path={folder.path}", f"out={path}")
    assert (result.code, result.err) == (0, "")
    store = TissueStore(path)
    assert store.unlabelled == store.tissues
    assert len(store.tissues) == 4
    np.testing.assert_array_equal(whole(store, "a_y00100_x00100", "sp"), slide.sp[:, 100:, 100:140])


def test_doctor_tells_labelled_tissues_from_others(mixed: Path, command: Command) -> None:
    result = command("doctor", "store=cohort.zarr")
    text = " ".join(result.out.split())
    assert "no labels in tissue c: to predict on, not to train on or to score" in text
    assert "without a cell" not in text
    with (mixed / "cohort_check/summary.csv").open() as table:
        cells = {row["tissue"]: row["cells"] for row in csv.DictReader(table)}
    assert cells == {"a": "32", "b": "32", "c": ""}


def test_train_and_its_doctor_refuse_what_has_no_labels(mixed: Path, command: Command) -> None:
    line = error_line(command("train", *WORDS, "epochs=1"))
    assert "split: side 'test' holds tissue c of cohort.zarr without labels" in line
    assert "split.leave_out=[…]" in line
    assert not (mixed / "runs").exists()
    result = command("doctor", *WORDS)
    assert result.code == 1
    text = " ".join(result.out.split())
    assert "no labels: tissue c" in text
    assert "side 'test' holds tissue c" in text


def test_what_is_left_out_hinders_no_run(mixed: Path, command: Command) -> None:
    (mixed / "split.csv").write_text("tissue,split\na,one\nb,two\nc,none\n")
    chosen = ["split=column", "split.table=split.csv", "split.train=[one]", "split.val=[two]"]
    words = [w for w in WORDS if not w.startswith("split=")]
    run = [*words, *chosen, "split.test=[]", "split.leave_out=[none]", "epochs=1"]
    result = command("train", *run, "class_weights=null", "run_dir=run")
    assert (result.code, result.err) == (0, "")
    metrics = json.loads((mixed / "run/metrics.json").read_text())
    assert list(metrics["val"]["tissues"]) == ["b"]
    result = command("evaluate", "run=run", "store.path=cohort.zarr")
    assert "trained the decoder" in error_line(result)
    bare = {"x": three_tissues()["c"]._replace(instances=None, classes=None)}
    (mixed / "others").mkdir()
    other = write_cohort(mixed / "others", bare)
    line = error_line(command("evaluate", "run=run", f"store.path={other}"))
    assert "holds tissue x of" in line
    assert "without labels" in line


def test_features_need_no_labels(mixed: Path, command: Command) -> None:
    result = command("embed", *WORDS)
    assert (result.code, encoded(result.out)) == (0, ["a", "b", "c"])


def test_exports_hold_images_of_all(mixed: Path, command: Command) -> None:
    result = command("export", "store.path=cohort.zarr", "out=made")
    assert (result.code, result.err) == (0, "")
    made: Any = zarr.open_group(mixed / "made/c.ome.zarr", mode="r")
    np.testing.assert_array_equal(
        np.asarray(made["he/0"]), whole(TissueStore("cohort.zarr"), "c", "he")
    )
