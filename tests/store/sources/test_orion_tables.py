"""The description of whole slides, and tables of slides and of cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slide_folders import SlideFolder, SlideImages, check_planes, read, refused

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.conversion import convert
from tissueseg.store.planes import Window
from tissueseg.store.sources.orion import OrionSource
from tissueseg.store.sources.slide_region import CellClasses


def test_slides_and_patients_of_a_table(folder: SlideFolder, slide: SlideImages) -> None:
    folder.write(
        "slides.csv",
        "id;he;sp;labels;cells;patient;split;scanner",
        "s1;a.he.ome.tif;a.sp.ome.tif;a.labels.ome.tif;a.csv;p1;train;x",
        "s2;more/b.he.ome.tif;more/b.sp.ome.tif;more/b.labels.ome.tif;;;;y",
    )
    (folder.path / "more").mkdir()
    folder.add("more/b", slide)
    types = {"id": "CellID", "type": "phenotype", "untyped": ["unclear"]}
    folder.describe(slides="slides.csv", images=None, masks={"types": types})
    source = OrionSource(folder.path)
    first, second = (source.open(name) for name in source.tissues)
    assert source.tissues == ("s1", "s2")
    assert (first.patient, first.split, second.patient, second.split) == ("p1", "train", "s2", None)
    check_planes(read(first), slide, Window(0, 0, 300, 420))
    classes = read(second).classes
    assert set(np.unique(classes)) == {0, IGNORE}  # it has no table
    assert set(source.files("s2")) == {
        *("slides.csv", "description", "more/b.he.ome.tif", "more/b.sp.ome.tif"),
        "more/b.labels.ome.tif",
    }


def test_what_a_table_of_slides_leaves_out_is_found_by_pattern(folder: SlideFolder) -> None:
    folder.write("slides.csv", "id,patient", "a,p7")
    folder.describe(slides="slides.csv")
    source = OrionSource(folder.path)
    assert source.open("a").patient == "p7"


SLIDE_TABLES: dict[tuple[str, ...], str] = {
    ("id,he,labels", "../a,a.he.ome.tif,a.labels.ome.tif"): "line 2: '../a' is no plain tissue id",
    (
        "id,he,labels",
        "a,../a.he.ome.tif,a.labels.ome.tif",
    ): "line 2: he is '../a.he.ome.tif', wanted",
    ("id,he,labels", "a,/a.he.ome.tif,a.labels.ome.tif"): "wanted a path inside the folder",
    ("id,he,labels", "a,C:\\a.tif,a.labels.ome.tif"): "wanted a path inside the folder",
    ("id,he,labels", "a,.a.tif,a.labels.ome.tif"): "wanted a path inside the folder",
    ("id,he,labels", "a,a.png,a.labels.ome.tif"): "he is 'a.png', wanted .tif, .tiff, .svs",
    ("id,he,labels", "a,b.tif,a.labels.ome.tif"): "b.tif is missing",
    ("id,he,labels", "a,,a.labels.ome.tif"): "line 2: he of slide a is empty",
    ("id,he,labels", "a,a.he.ome.tif,a.he.ome.tif"): "a.he.ome.tif is given for two things",
    ("id,he,lables", "a,a.he.ome.tif,a.labels.ome.tif"): "a column 'lables': did you mean labels?",
    ("name,he,labels", "a,a.he.ome.tif,a.labels.ome.tif"): "has no column id",
    ("id,labels", "a,a.labels.ome.tif"): "wanted he, sp or both, and labels",
    ("id,he,cells", "a,a.he.ome.tif,a.csv"): "but no masks that show where these cells lie",
    ("id,he,labels",): "names no slide",
    ("id,he,labels", *["a,a.he.ome.tif,a.labels.ome.tif"] * 2): "names slide 'a' twice",
}


@pytest.mark.parametrize("lines", SLIDE_TABLES)
def test_tables_of_slides_are_checked(lines: tuple[str, ...], folder: SlideFolder) -> None:
    folder.write("slides.csv", *lines)
    message = refused(folder, slides="slides.csv", images=None, masks=None, classes=None)
    assert SLIDE_TABLES[lines] in message


def test_files_are_named_once(folder: SlideFolder) -> None:
    folder.write("slides.csv", "id,he", "a,a.he.ome.tif")
    assert "has a column he, and the description gives it too" in refused(
        folder, slides="slides.csv"
    )


DESCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"region": {}}, "unknown key 'region': did you mean regions?"),
    "no image": ({"images": {}}, "give he, sp or both, or a table as `slides`"),
    "no masks": ({"masks": {}}, "masks.instances is missing"),
    "cells counted without masks": (
        {"masks": None, "regions": {"size_px": 64, "min_cells": 2}},
        "no masks say where cells lie",
    ),
    "jpeg": ({"images": {"he": "{id}.jpg"}}, "images.he is '{id}.jpg', wanted .tif, .tiff, .svs"),
    "class image": (
        {"masks": {"instances": "{id}.tif", "classes": "{id}.c.tif"}},
        "masks.classes is not read from whole slides: use source=folder",
    ),
    "ignore mask": (
        {"masks": {"instances": "{id}.tif", "ignore": "{id}.i.tif"}},
        "masks.ignore is not read from whole slides: use source=folder",
    ),
    "classes without types": (
        {"masks": {"instances": "{id}.labels.ome.tif"}},
        "names 2 classes, but masks give neither",
    ),
    "two rules": ({"regions": {"size_px": 9, "table": "r.csv"}}, "either `size_px` or `table`"),
    "no rule": ({"regions": {"min_cells": 3}}, "wanted either `size_px` or `table`"),
    "no size": ({"regions": {"size_px": 0}}, "regions.size_px is 0, wanted at least 1"),
    "text for a size": ({"regions": {"size_px": "big"}}, "size_px is 'big', wanted a number"),
    "edge": ({"regions": {"size_px": 9, "edge": "cut"}}, "choose keep or drop"),
    "few cells": ({"regions": {"size_px": 9, "min_cells": -1}}, "min_cells is -1"),
    "unknown slide": ({"tissues": ["z"]}, "there is no slide 'z', which `tissues` names"),
    "patient": ({"patient": "^z"}, "finds nothing in the slide id 'a'"),
    "nothing fits": ({"images": {"he": "{id}.svs"}}, "no file in"),
    "missing": ({"masks": {"instances": "{id}.x.tif"}, "classes": None}, "a.x.tif is missing"),
    "mpp": ({"mpp": 325}, "wanted µm per pixel (0 to 20) or unknown"),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_descriptions_are_checked(name: str, folder: SlideFolder) -> None:
    changes, said = DESCRIPTIONS[name]
    assert said in refused(folder, **changes)


def test_folder_and_description_must_be_there(folder: SlideFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        OrionSource(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no description at .*none\.yaml"):
        OrionSource(folder.path, tmp_path / "none.yaml")


CELL_TABLES = {
    ("CellID,type", "7,tumor"): "has columns ['CellID', 'type'], but the description wants",
    ("CellID,phenotype", "7,tumour"): "line 2: type 'tumour' is none of",
    ("CellID,phenotype", "7,tumor", "", "7,tumor"): "line 4: instance id 7 is given twice",
    ("CellID,phenotype", "seven,tumor"): "line 2: CellID is 'seven', wanted a number",
    ("CellID,phenotype", "7"): "line 2 has 1 values, but 2 columns",
    ("CellID,phenotype", "7,"): None,  # no type: not known
}


@pytest.mark.parametrize("lines", CELL_TABLES)
def test_tables_of_cells_are_checked_before(lines: tuple[str, ...], folder: SlideFolder) -> None:
    folder.write("a.csv", *lines)
    said = CELL_TABLES[lines]
    if said:
        assert said in refused(folder)
    else:
        assert OrionSource(folder.path).tissues == ("a",)


def test_tables_may_have_tabs_and_marks_of_byte_order(
    folder: SlideFolder, slide: SlideImages
) -> None:
    text = (folder.path / "a.csv").read_text(encoding="utf-8").replace(",", "\t")
    (folder.path / "a.csv").write_text("\ufeff" + text, encoding="utf-8", newline="\r\n")
    np.testing.assert_array_equal(read(OrionSource(folder.path).open("a")).classes, slide.classes)


@given(
    st.dictionaries(st.integers(1, 60), st.integers(1, 4)),
    st.lists(st.integers(1, 80), unique=True),
)
def test_classes_of_cells_are_those_of_the_table(types: dict[int, int], ids: list[int]) -> None:
    found = CellClasses(types).of(np.array(ids, np.int64))
    assert found.tolist() == [types.get(i, 0) for i in ids]


def test_very_high_ids_need_no_table_as_long(folder: SlideFolder, slide: SlideImages) -> None:
    high = np.where(slide.labels > 0, slide.labels + 2**30, 0)
    folder.save_labels("a", high)
    folder.write("a.csv", "CellID,phenotype", f"{2**30 + 7},tumor", f"{10**30},tumor")
    found = read(OrionSource(folder.path).open("a"))
    np.testing.assert_array_equal(found.classes == 1, slide.labels == 7)


def test_untyped_cells_are_counted_once(folder: SlideFolder, slide: SlideImages) -> None:
    tissue = OrionSource(folder.path).open("a")
    for x in range(0, 420, 70):  # cuts through cells
        tissue.read(Window(0, x, 300, 70))
    untyped = np.unique(slide.labels[slide.classes == IGNORE]).size
    assert untyped > 100
    assert tissue.notices == {"{n} instances without class take class 255": untyped}
    assert tissue.clips == {}
    assert OrionSource(folder.path).open("a").notices == {}  # counted by each tissue for itself


def test_untyped_cells_are_an_error_unless_declared(folder: SlideFolder, tmp_path: Path) -> None:
    folder.describe(untyped=None)
    with pytest.raises(TissueDataError, match="instances without class, such as"):
        convert(OrionSource(folder.path), tmp_path / "out.zarr")
