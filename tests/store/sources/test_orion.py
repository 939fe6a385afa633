"""Whole slides as a source: which tissues there are, and that their windows are the slide's pixels."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_folders import (
    CHANNELS,
    SlideFolder,
    SlideImages,
    check_planes,
    read,
    refused,
)

from tissueseg.errors import TissueDataError
from tissueseg.store.conversion import convert
from tissueseg.store.planes import Planes, Window
from tissueseg.store.sources.orion import OrionSource


def test_a_slide_is_one_tissue_unless_told(folder: SlideFolder, slide: SlideImages) -> None:
    source = OrionSource(folder.path)
    assert source.tissues == ("a",)
    assert source.images == ("he", "sp")
    assert [c.name for c in source.panel] == list(CHANNELS)
    assert [c.name for c in source.classes] == ["background", "tumor", "t_cell"]
    assert source.scale("a") == 0.5
    tissue = source.open("a")
    assert (tissue.shape, tissue.images, tissue.patient) == ((300, 420), ("he", "sp"), "a")
    check_planes(read(tissue), slide, Window(0, 0, 300, 420))


@given(data=st.data())
@settings(max_examples=30)
def test_windows_of_regions_are_the_pixels(
    tmp_path_factory: pytest.TempPathFactory, slide: SlideImages, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "windows"
    if not path.exists():
        folder = SlideFolder(path)
        folder.add("a", slide)
        folder.describe(regions={"size_px": 128})
    source = OrionSource(path)
    name = data.draw(st.sampled_from(source.tissues))
    tissue = source.open(name)
    height, width = tissue.shape
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(y + 1, height)), data.draw(st.integers(x + 1, width))
    found = tissue.read(Window(y, x, bottom - y, right - x))
    row, column = (int(part[1:]) for part in name.split("_")[1:])
    check_planes(found, slide, Window(row + y, column + x, bottom - y, right - x))


@pytest.mark.parametrize(
    ("edge", "names"),
    [
        ("keep", ["y00000_x00000", "y00000_x00200", "y00000_x00400"]),
        ("drop", ["y00000_x00000", "y00000_x00200"]),
    ],
)
def test_squares_tile_the_slide(
    edge: str, names: list[str], folder: SlideFolder, slide: SlideImages
) -> None:
    folder.describe(regions={"size_px": 200, "edge": edge})
    source = OrionSource(folder.path)
    below = [name.replace("y00000", "y00200") for name in names] if edge == "keep" else []
    assert source.tissues == tuple(f"a_{name}" for name in (*names, *below))
    covered = np.zeros(slide.labels.shape, int)
    for name in source.tissues:
        y, x, height, width = source.open(name).region.window
        covered[y : y + height, x : x + width] += 1
        assert source.open(name).patient == "a"
    if edge == "keep":
        assert (covered == 1).all()
    else:
        assert (covered[:200, :400] == 1).all()
        assert covered.sum() == 200 * 400


def test_a_slide_smaller_than_the_regions(folder: SlideFolder) -> None:
    folder.describe(regions={"size_px": 4096})
    source = OrionSource(folder.path)
    assert source.tissues == ("a_y00000_x00000",)
    assert source.open("a_y00000_x00000").shape == (300, 420)
    folder.describe(regions={"size_px": 4096, "edge": "drop"})
    with pytest.raises(TissueDataError, match=r"no region of .* is left"):
        OrionSource(folder.path)


@pytest.mark.parametrize(("least", "kept"), [(0, 4), (1, 2), (2, 1), (3, 1)])
def test_regions_with_few_cells_are_left_out(
    least: int, kept: int, folder: SlideFolder, slide: SlideImages
) -> None:
    labels = np.zeros_like(slide.labels)
    labels[:5, :5], labels[20:25, :5] = 5, 6
    labels[50:55, 145:155] = 7  # in two regions
    folder.save_labels("a", labels)
    folder.describe(regions={"size_px": 150, "edge": "drop", "min_cells": least})
    source = OrionSource(folder.path)
    names = ("y00000_x00000", "y00000_x00150", "y00150_x00000", "y00150_x00150")
    assert source.tissues == tuple(f"a_{name}" for name in names[:kept])
    said = f"{4 - kept} of 4 regions with fewer than {least} cells left out"
    assert (said in source.notices) == (kept < 4)


def test_regions_of_a_table(folder: SlideFolder, slide: SlideImages) -> None:
    folder.write(
        "regions.csv", "slide,region,x,y,width,height", "a,core,30,20,200,100", "a,rim,0,0,9,300"
    )
    folder.describe(regions={"table": "regions.csv"})
    source = OrionSource(folder.path)
    assert source.tissues == ("a_core", "a_rim")
    check_planes(read(source.open("a_core")), slide, Window(20, 30, 100, 200))
    assert source.open("a_rim").shape == (300, 9)
    assert set(source.files("a_rim")) >= {"regions.csv", "description", "a.csv", "a.he.ome.tif"}


REGION_TABLES = {
    "b,core,0,0,9,9": "line 2: there is no slide 'b'; there are a",
    "a,core,400,0,21,9": "line 2: region 'core' is x 400 … 421, y 0 … 9, but slide a is 300 × 420 px",
    "a,core,-1,0,9,9": "region 'core' is x -1",
    "a,core,0,0,0,9": "x 0 … 0",
    "a,core,0.5,0,9,9": "line 2: x is '0.5', wanted a whole number",
    "a,core,zero,0,9,9": "line 2: x is 'zero', wanted a number",
    "a,../core,0,0,9,9": "line 2: '../core' is no plain",
    "a,b/c,0,0,9,9": "line 2: 'b/c' is a path",
    "a,core,0,0,9,9\na,core,9,9,9,9": "line 3: a_core is the name of two regions",
    "a,core,0,0,9": "line 2 has 5 values, but 6 columns",
}


@pytest.mark.parametrize("lines", REGION_TABLES)
def test_tables_of_regions_are_checked(lines: str, folder: SlideFolder) -> None:
    folder.write("regions.csv", "slide,region,x,y,width,height", lines)
    message = refused(folder, regions={"table": "regions.csv"})
    assert "regions.csv" in message
    assert REGION_TABLES[lines] in message


def test_a_table_of_regions_needs_its_columns(folder: SlideFolder) -> None:
    folder.write("regions.csv", "slide,region,x,y,w,h", "a,core,0,0,9,9")
    assert "has no column width, height" in refused(folder, regions={"table": "regions.csv"})
    assert "none.csv is missing" in refused(folder, regions={"table": "none.csv"})


def test_regions_of_two_slides_may_not_share_a_name(
    folder: SlideFolder, slide: SlideImages
) -> None:
    folder.add("a_b", slide)
    folder.write("regions.csv", "slide,region,x,y,width,height", "a,b_c,0,0,9,9", "a_b,c,0,0,9,9")
    assert "a_b_c is the name of two regions" in refused(folder, regions={"table": "regions.csv"})


def test_slides_without_region_are_said(folder: SlideFolder, slide: SlideImages) -> None:
    folder.add("b", slide)
    folder.write("regions.csv", "slide,region,x,y,width,height", "a,core,0,0,9,9")
    folder.describe(regions={"table": "regions.csv"})
    source = OrionSource(folder.path)
    assert source.tissues == ("a_core",)
    assert "no region of tissue b is taken" in source.notices


def test_slides_may_be_chosen_and_have_patients(folder: SlideFolder, slide: SlideImages) -> None:
    folder.add("b", slide)
    folder.describe(tissues=["b"], patient="(.)", regions={"size_px": 256})
    source = OrionSource(folder.path)
    assert {name.split("_")[0] for name in source.tissues} == {"b"}
    assert {source.open(name).patient for name in source.tissues} == {"b"}


def test_windows_outside_a_region_are_refused(folder: SlideFolder) -> None:
    folder.describe(regions={"size_px": 100})
    tissue = OrionSource(folder.path).open("a_y00100_x00100")
    with pytest.raises(TissueDataError, match=r"tissue a_y00100_x00100 is \(100, 100\)"):
        tissue.read(Window(0, 50, 10, 51))


def test_files_of_a_slide_are_opened_once(
    folder: SlideFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.describe(regions={"size_px": 100})
    source = OrionSource(folder.path)
    monkeypatch.setattr(tifffile, "TiffFile", None)
    for name in source.tissues:
        assert read(source.open(name)).instances.any()


def test_a_region_outlives_its_source(folder: SlideFolder, slide: SlideImages) -> None:
    for name in ("b", "c", "d"):
        folder.add(name, slide)
    source = OrionSource(folder.path)
    tissue = source.open("a")
    for name in source.tissues:
        source.open(name)
    del source
    gc.collect()
    check_planes(read(tissue), slide, Window(0, 0, 300, 420))


def test_a_store_holds_the_pixels_of_its_regions(
    folder: SlideFolder, slide: SlideImages, tmp_path: Path
) -> None:
    folder.describe(regions={"size_px": 300})
    store = convert(OrionSource(folder.path), tmp_path / "out.zarr")
    assert store.tissues == ("a_y00000_x00000", "a_y00000_x00300")
    assert {store.entry(name).patient for name in store.tissues} == {"a"}
    window = Window(0, 0, 300, 120)
    found = Planes(
        *(
            store.read(store.tissues[1], array, window)
            for array in ("labels/instances", "labels/classes")
        ),
        *(store.read(store.tissues[1], array, window) for array in ("he", "sp")),
    )
    check_planes(found, slide, Window(0, 300, 300, 120))


@pytest.mark.parametrize(
    ("key", "changes"), [("slides", {"slides": ""}), ("regions.table", {"regions": {"table": " "}})]
)
def test_empty_text_names_no_table(
    key: str, changes: dict[str, object], folder: SlideFolder
) -> None:
    assert f"{key} is empty text: say what is meant" in refused(folder, **changes)
