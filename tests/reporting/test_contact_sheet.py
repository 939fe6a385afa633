"""Contact sheets: what is on them, by the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stores import CLASSES, PANEL, random_tissue, write_store

from tissueseg.contracts import IGNORE
from tissueseg.drawing import GAP_PX, TITLE_PX
from tissueseg.errors import TissueDataError
from tissueseg.inspection.overview import measure, shrink_images
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.reporting import contact_sheet
from tissueseg.reporting.contact_sheet import SIDE_PX, ContactSheets
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

CELL = SIDE_PX + GAP_PX
TOP = GAP_PX + 2 * TITLE_PX  # legend of one line, then titles of columns


def sheets_of(store: TissueStore, folder: Path) -> list[Path]:
    """Sheets of all tissues, as `prepare` and `doctor` make them."""
    folder.mkdir(exist_ok=True)
    sheets = ContactSheets(store, folder)
    for tissue in store.tissues:
        pixels = TissuePixels(store, tissue)
        thumbnails = shrink_images(pixels, sheets.channels, SIDE_PX)
        sheets.add(pixels, thumbnails, measure(pixels).masks)
    return sheets.finish()


def only(path: Path, kind: str, tissue: Tissue) -> TissueStore:
    other = {"he": "sp", "sp": "he"}[kind]
    panel = PANEL if kind == "sp" else ()
    return write_store(path, {"a": tissue._replace(**{other: None})}, panel=panel, images=(kind,))


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as page:
        return page.size


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as page:
        return np.asarray(page)


def pictures(path: Path, row: int, columns: int) -> list[np.ndarray]:
    """The squares of one row."""
    page = pixels_of(path)
    top = TOP + row * (TITLE_PX + CELL) + TITLE_PX
    lefts = (GAP_PX + i * CELL for i in range(columns))
    return [page[top : top + SIDE_PX, left : left + SIDE_PX] for left in lefts]


def plain(size: int, **parts: object) -> Tissue:
    """White H&E, dark SP, one large cell of class 1 in the lower right."""
    instances = np.zeros((size, size), np.int32)
    instances[-60:-20, -60:-20] = 1
    tissue = Tissue(
        instances=instances,
        classes=instances.astype(np.uint8),
        he=np.full((3, size, size), 250, np.uint8),
        sp=np.zeros((2, size, size), np.uint16),
    )
    return tissue._replace(**parts)


def test_every_tissue_has_a_row_and_pages_hold_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "PER_PAGE", 2)
    store = write_store(
        tmp_path / "s.zarr", {n: random_tissue(seed=i) for i, n in enumerate("abc")}
    )
    paths = sheets_of(store, tmp_path / "sheets")
    assert [path.name for path in paths] == ["contact_sheet_01.png", "contact_sheet_02.png"]
    sizes = [size_of(path) for path in paths]
    assert [size[0] for size in sizes] == [4 * CELL + GAP_PX] * 2
    assert sizes[0][1] - sizes[1][1] == TITLE_PX + CELL


@pytest.mark.parametrize("kind", ["he", "sp"])
def test_stores_of_one_image_have_two_columns(tmp_path: Path, kind: str) -> None:
    (path,) = sheets_of(only(tmp_path / "s.zarr", kind, random_tissue()), tmp_path)
    assert size_of(path)[0] == 2 * CELL + GAP_PX


def test_the_field_lies_on_the_cells_and_is_marked(tmp_path: Path) -> None:
    store = only(tmp_path / "s.zarr", "he", plain(1000))
    (path,) = sheets_of(store, tmp_path)
    whole, field = pictures(path, 0, 2)
    assert (field == (255, 0, 0)).all(-1).sum() == 4 * 39  # the rim of 40 px, in the class's colour
    assert (whole[:180, :180] >= 249).all()
    frame = np.argwhere((whole == contact_sheet._FIELD).all(-1))
    np.testing.assert_array_less([180, 180], frame.min(axis=0))  # 744 of 1000 px in 256
    assert frame.max() >= 254


def test_small_tissues_are_enlarged_by_whole_factors(tmp_path: Path) -> None:
    he = np.random.default_rng(0).integers(0, 256, (3, 60, 60), np.uint8)
    store = only(tmp_path / "s.zarr", "he", plain(60, he=he))
    whole, _ = pictures(*sheets_of(store, tmp_path), 0, 2)
    np.testing.assert_array_equal(whole[:240:4, :240:4], he.transpose(1, 2, 0))
    np.testing.assert_array_equal(whole[3:240:4, 3:240:4], he.transpose(1, 2, 0))
    assert (whole[240:] == 255).all()


def test_the_nuclear_channel_is_blue_and_scaled_to_its_clip(tmp_path: Path) -> None:
    sp = np.zeros((2, 256, 256), np.uint16)
    sp[0, :128] = 500
    sp[0, :2, :2] = 60_000  # above the clip
    sp[1, :, :128] = np.arange(128) * 10
    whole, field = pictures(
        *sheets_of(only(tmp_path / "s.zarr", "sp", plain(256, sp=sp)), tmp_path), 0, 2
    )
    for picture in (whole, field):
        assert picture[60, 200].tolist() == [0, 0, 255]
        assert picture[60, 0].tolist() == [0, 0, 255]
        assert picture[60, 120, 1] > picture[60, 30, 1] > 0
    assert whole[200, 240].tolist() == [0, 0, 0]


def test_dead_channels_are_black(tmp_path: Path) -> None:
    store = only(tmp_path / "s.zarr", "sp", plain(256))
    whole, _ = pictures(*sheets_of(store, tmp_path), 0, 2)
    assert not whole.any()


@pytest.mark.parametrize("mpp", [0.5, None])
def test_a_bar_shows_a_scale_that_is_known(tmp_path: Path, mpp: float | None) -> None:
    path = tmp_path / "s.zarr"
    with TissueWriter(path, mpp=mpp, classes=CLASSES, images=("he",)) as writer:
        writer.add("a", plain(256, sp=None))
    _, field = pictures(*sheets_of(TissueStore(path), tmp_path), 0, 2)
    dark = (field[-14:, :120] < 60).all(-1).any(axis=0)
    assert dark.sum() == (41 if mpp else 0)  # 20 µm are 40 px


def test_coarse_images_show_a_smaller_field(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    with TissueWriter(path, mpp=1.0, classes=CLASSES, images=("he",)) as writer:
        writer.add("a", plain(300, sp=None))
    _, field = pictures(*sheets_of(TissueStore(path), tmp_path), 0, 2)
    assert (field == (255, 0, 0)).all(-1).sum() == 4 * 79  # 40 px, twice as large


def test_a_tissue_without_cells_shows_its_middle(tmp_path: Path) -> None:
    he = np.zeros((3, 600, 600), np.uint8)
    he[0, 172:428, 172:428] = 200
    nothing = np.zeros((600, 600), np.int32)
    store = only(tmp_path / "s.zarr", "he", plain(600, he=he, instances=nothing, classes=nothing))
    _, field = pictures(*sheets_of(store, tmp_path), 0, 2)
    assert (field[:200] == (200, 0, 0)).all()


def test_unknown_classes_are_in_the_legend_where_there_are_some(tmp_path: Path) -> None:
    tissue = plain(256)
    unknown = tissue._replace(classes=tissue.classes * np.uint8(IGNORE))
    legends = []
    for name, shown in (("typed", tissue), ("untyped", unknown)):
        (path,) = sheets_of(only(tmp_path / f"{name}.zarr", "he", shown), tmp_path / name)
        legends.append(pixels_of(path)[: GAP_PX + TITLE_PX])
    typed, untyped = ((legend < 100).all(-1).sum() for legend in legends)
    assert untyped > typed + 50


def test_long_names_are_cut(tmp_path: Path) -> None:
    store = write_store(
        tmp_path / "s.zarr",
        {"a" * 150: random_tissue(sp=None)},
        panel=(),
        images=("he",),
    )
    (path,) = sheets_of(store, tmp_path)
    page = pixels_of(path)
    title = page[TOP + 2 : TOP + TITLE_PX]
    assert (title[:, :200] < 100).any()
    assert (title[:, -2:] == 255).all()


def test_sheets_of_an_earlier_store_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "sheets"
    folder.mkdir()
    kept = ["contact_sheet_1.png", "contact_sheet_02.png.bak", "my_contact_sheet_03.png", "notes"]
    for name in (*kept, "contact_sheet_02.png", "contact_sheet_117.png"):
        (folder / name).write_text("old")
    (folder / "contact_sheet_04.png").mkdir()
    (path,) = sheets_of(only(tmp_path / "s.zarr", "he", plain(256)), folder)
    found = sorted(p.name for p in folder.iterdir())
    assert found == sorted([*kept, path.name, "contact_sheet_04.png"])


def test_what_stands_in_the_way_of_a_sheet_is_one_line(tmp_path: Path) -> None:
    store = only(tmp_path / "s.zarr", "he", plain(256))
    (tmp_path / "contact_sheet_01.png").mkdir()
    with pytest.raises(TissueDataError, match=r"cannot write .*contact_sheet_01\.png: ") as caught:
        sheets_of(store, tmp_path)
    assert "\n" not in str(caught.value)


def test_attributes_of_a_tissue_are_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "PER_PAGE", 1)
    tissues = {name: random_tissue(seed=i) for i, name in enumerate("abc")}
    store = write_store(tmp_path / "s.zarr", tissues)
    opened: list[str] = []
    read = store._read_attributes

    def spy(tissue: str) -> dict:
        opened.append(tissue)
        return read(tissue)

    monkeypatch.setattr(store, "_read_attributes", spy)
    assert len(sheets_of(store, tmp_path / "sheets")) == 3
    assert opened == ["a", "b", "c"]
