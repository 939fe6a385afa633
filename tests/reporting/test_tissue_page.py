"""Pages of predictions: whole, small, safe to open and true to their figures."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tissueseg.errors import StoreWriteError
from tissueseg.reporting.overview_pictures import Pair
from tissueseg.reporting.page_parts import embedded, histogram, size_of
from tissueseg.reporting.tissue_page import (
    opened_by,
    prediction_page,
    tissue_page,
    write_prediction_page,
    write_tissue_page,
)
from tissueseg.reporting.tissue_summary import (
    CellCounts,
    Histogram,
    TissueSummary,
    TypeCount,
    WrittenFile,
    list_files,
)
from tissueseg.store.planes import Window

EVIL = '<script>alert("1")</script>&\'"'
AREA = Histogram((0.0, 10.0, 20.0), (30, 60), 10, "µm²")
COUNTS = CellCounts(
    (TypeCount("tumor", "#ff0000", 75), TypeCount("immune", "#00ff00", 25)),
    at_edge=7,
    area=AREA,
    type_prob=Histogram((0.0, 0.5, 1.0), (40, 60)),
)
SUMMARY = TissueSummary(
    tissue="t1",
    height_px=2000,
    width_px=1000,
    mpp=0.5,
    cells=COUNTS,
    about={"run": "my_run", "encoder": "virtues"},
    duplicates=3,
    files=(WrittenFile("cells.geojson", 1_234_567), WrittenFile("labels.ome.zarr", 2)),
)


def pair(height: int = 20, width: int = 30, window: Window | None = None) -> Pair:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Pair(window or Window(0, 0, height, width), pixels, 255 - pixels)


class Reader(HTMLParser):
    """Tags that are closed in order, what is linked, and the text."""

    VOID = ("meta", "img", "line", "rect", "!doctype")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_says_what_was_found() -> None:
    crops = [pair(64, 64, Window(512, 1024, 64, 64))]
    reader = Reader(tissue_page(SUMMARY, pair(), crops))
    for said in ("100", "200", "0.500", "2,000 × 1,000", "75.0 %", "25.0 %", "my_run", "virtues"):
        assert said in reader.text, said
    assert "7 cells touch the edge" in reader.text
    assert "3 cells were found by two blocks" in reader.text
    assert "64 × 64 px (32 × 32 µm) from row 512, column 1,024" in reader.text
    assert "shrunk" not in reader.text
    assert "QuPath" in reader.text
    assert "1.2 MB" in reader.text
    assert (reader.tags.count("img"), reader.tags.count("svg")) == (4, 2)
    assert "RANDOM" not in reader.text


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = tissue_page(SUMMARY, pair())
    reader = Reader(page)
    pictures = [a for a in reader.addresses if a.startswith("data:")]
    assert len(pictures) == 2
    assert set(reader.addresses) - set(pictures) == {"cells.geojson", "labels.ome.zarr"}
    assert not {"script", "link", "iframe"} & set(reader.tags)
    assert not re.search(r"https?://|url\(|@import", page)
    shown = Image.open(io.BytesIO(base64.b64decode(pictures[0].split(",")[1])))
    assert shown.size == (30, 20)


def test_random_weights_are_shouted_and_only_then() -> None:
    loud = TissueSummary(**(SUMMARY.as_dict() | {"random_weights": True}))
    for page in (tissue_page(loud, pair()), prediction_page("run", [SUMMARY, loud])):
        assert '<p class="loud">RANDOM ENCODER WEIGHTS' in page
    assert "RANDOM" not in prediction_page("run", [SUMMARY])


def test_every_name_is_escaped() -> None:
    summary = TissueSummary(
        tissue=EVIL,
        height_px=10,
        width_px=10,
        mpp=None,
        cells=CellCounts(
            (TypeCount(EVIL, '"><script>', 1),), area=Histogram((0, 1), (1,), 0, EVIL)
        ),
        about={EVIL: EVIL},
        notices=(EVIL,),
        files=(WrittenFile(EVIL, 1),),
    )
    for page in (tissue_page(summary, pair(), [pair()]), prediction_page(EVIL, [summary])):
        assert "script" not in Reader(page).tags
        assert EVIL in Reader(page).text


def test_unknown_scales_and_empty_tissues_have_pages() -> None:
    empty = TissueSummary("t", 10, 10, None, CellCounts((TypeCount("tumor", "#ff0000", 0),)))
    reader = Reader(tissue_page(empty, pair()))
    assert "mm²" not in reader.text
    assert "0.0 %" in reader.text
    assert "svg" not in reader.tags
    assert "not known" in reader.text
    assert "t" in Reader(prediction_page("run", [empty])).text


def test_the_page_of_all_links_each_and_adds_up(tmp_path: Path) -> None:
    other = TissueSummary("core 2/a", 10, 10, 0.5, CellCounts((TypeCount("stroma", "#0000ff", 5),)))
    path = write_prediction_page(tmp_path, "my run", [SUMMARY, other])
    reader = Reader(path.read_text(encoding="utf-8"))
    assert reader.addresses == ["t1/index.html", "core%202%2Fa/index.html"]
    assert "105" in reader.text
    assert all(name in reader.text for name in ("tumor", "immune", "stroma"))


def test_summaries_come_back_from_json() -> None:
    stored = json.loads(json.dumps(SUMMARY.as_dict() | {"written_by": "a later version"}))
    assert TissueSummary.from_dict(stored) == SUMMARY


def test_pages_are_small_whatever_is_on_them(tmp_path: Path) -> None:
    """Noise is what JPEG packs worst."""
    page = write_tissue_page(tmp_path, SUMMARY, pair(1200, 1600), [pair(512, 512)] * 3)
    assert page.stat().st_size < 3_000_000


def test_pictures_share_their_room_and_stay_alike_where_it_is_enough() -> None:
    smooth = np.zeros((64, 64, 3), np.uint8)
    smooth[20:40, 20:40] = (200, 30, 60)
    made = [base64.b64decode(a.split(",")[1]) for a in embedded([smooth])]
    found = np.asarray(Image.open(io.BytesIO(made[0])), np.int16)
    assert np.abs(found - smooth).mean() < 2
    tight = [base64.b64decode(a.split(",")[1]) for a in embedded([pair(300, 300).plain] * 2, 9000)]
    assert sum(map(len, tight)) <= 9000
    with pytest.raises(ValueError, match="hold no 2 pictures"):
        embedded([smooth, smooth], 100)


def test_bars_are_as_high_as_their_counts() -> None:
    root = ElementTree.fromstring(histogram(AREA, "cells by area"))
    bars = root.findall("rect")
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights == [75, 150]
    assert [float(b.attrib["y"]) + h for b, h in zip(bars, heights, strict=True)] == [150, 150]
    assert bars[0].findtext("title") == "0 … 10 µm²: 30 cells"
    assert root.attrib["aria-label"] == "cells by area, 10 beyond; highest bar: 60 cells"
    assert [t.text for t in root.findall("text")][:3] == ["0", "10", "20 µm²"]


def test_files_are_listed_with_all_that_is_below_them(tmp_path: Path) -> None:
    (tmp_path / "labels.ome.zarr" / "0").mkdir(parents=True)
    (tmp_path / "labels.ome.zarr" / "0" / "c").write_bytes(bytes(1000))
    (tmp_path / "cells.csv").write_bytes(bytes(10))
    (tmp_path / ".hidden").write_bytes(bytes(9))
    (tmp_path / "index.html").write_bytes(bytes(9))
    found = list_files(tmp_path)
    assert found == (WrittenFile("cells.csv", 10), WrittenFile("labels.ome.zarr", 1000))


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (123_456_789, "123 MB")]
)
def test_sizes_are_said_in_a_few_letters(size: int, said: str) -> None:
    assert size_of(size) == said


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("cells.geojson", "QuPath"),
        ("labels.ome.zarr", "napari"),
        ("t1.spatialdata.zarr", "spatialdata"),
        ("cells.h5ad", "scanpy"),
        ("cells.geo.parquet", "geopandas"),
        ("cells.parquet", "pandas"),
        ("cells.csv", "spreadsheet"),
    ],
)
def test_files_are_told_with_what_opens_them(name: str, tool: str) -> None:
    assert tool in opened_by(name)
    assert opened_by("notes") == ""


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreWriteError, match="cannot write") as caught:
        write_tissue_page(tmp_path / "file", SUMMARY, pair())
    assert "\n" not in str(caught.value)
