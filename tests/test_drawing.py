"""Drawing: colours of classes, outlines, sheets and legends."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from stores import CLASSES

from tissueseg.contracts import IGNORE
from tissueseg.drawing import (
    GAP_PX,
    TITLE_PX,
    class_colors,
    class_legend,
    composite,
    draw_legend,
    grey,
    heat,
    legend_height,
    outlined,
    outlined_in_colors,
    read_pictures,
    save_sheet,
    sheet,
    tinted,
)

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def cell() -> tuple[np.ndarray, np.ndarray]:
    """Labels and classes of one cell of class 1 with an interior."""
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 2:7] = 1
    return labels, labels.astype(np.uint8)


def test_every_class_has_its_colour_and_ignored_is_white() -> None:
    colors = class_colors(CLASSES)
    assert tuple(colors[1]) == RED
    assert tuple(colors[2]) == GREEN
    assert tuple(colors[IGNORE]) == WHITE
    assert not colors[3:IGNORE].any()


def test_the_legend_names_what_is_shown() -> None:
    assert class_legend(CLASSES, np.array([0, 2]), "?") == [("immune", GREEN)]
    shown = class_legend(CLASSES, np.array([1, IGNORE]), "?")
    assert shown == [("tumor", RED), ("?", WHITE)]


def test_composites_fill_blue_first_and_clip() -> None:
    channels = [np.array([[0.0, 25, 100, 400]]), np.array([[5.0] * 4])]
    picture = composite(channels, [100.0, 0.0])
    assert picture[0, :, 2].tolist() == [0, 127, 255, 255]
    assert not picture[..., :2].any()


def test_outlines_lie_on_the_rim_and_nowhere_else() -> None:
    labels, classes = cell()
    picture = np.full((9, 9, 3), 90, np.uint8)
    colored = outlined_in_colors(picture, labels, classes, CLASSES)
    assert (colored[2, 2:7] == RED).all()
    assert (colored[3:6, 3:6] == 90).all()
    assert (colored[labels == 0] == 90).all()
    dark = outlined(picture, labels)
    assert (dark[2, 2:7] == 30).all()
    assert (dark[3:6, 3:6] == 90).all()


def test_tints_leave_background_grey() -> None:
    _, classes = cell()
    plain = grey(np.full((9, 9, 3), 100, np.uint8))
    picture = tinted(plain, classes, CLASSES)
    assert (picture[classes == 0] == 139).all()  # 64 + 0.75 · 100
    red, green, blue = picture[4, 4].tolist()
    assert red > 200
    assert green == blue < 60


def test_heat_grows_from_black_to_bright() -> None:
    picture = heat(np.array([[0, 60, 255]], np.uint8))
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 1, 0] > picture[0, 1, 1] > picture[0, 1, 2] > 0
    assert picture[0, 2].tolist() == [255, 255, 178]


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (5, 3, 2)])
def test_sheets_have_rows_of_three(count: int, columns: int, rows: int) -> None:
    pictures = {str(i): np.full((40, 50, 3), 10 + i, np.uint8) for i in range(count)}
    page = sheet(pictures, [])
    assert page.size == (columns * 56 + GAP_PX, rows * (40 + TITLE_PX + GAP_PX))
    for i in range(count):
        row, column = divmod(i, 3)
        at = GAP_PX + column * 56 + 25, row * (40 + TITLE_PX + GAP_PX) + TITLE_PX + 20
        assert page.getpixel(at) == (10 + i,) * 3


def test_legends_wrap_at_the_width_they_are_given() -> None:
    legend = [("a class", RED), ("another class", GREEN)]
    assert legend_height(legend, 400) == TITLE_PX
    assert legend_height(legend, 120) == 2 * TITLE_PX
    assert legend_height([], 400) == 0
    page = Image.new("RGB", (120, 80), WHITE)
    draw_legend(ImageDraw.Draw(page), legend, 10, 120)
    assert page.getpixel((GAP_PX + 6, 10 + 9)) == RED
    assert page.getpixel((GAP_PX + 6, 10 + TITLE_PX + 9)) == GREEN


def test_a_saved_sheet_gives_its_pictures_back(tmp_path):
    rng = np.random.default_rng(0)
    made = {f"picture {i}": rng.integers(0, 255, (20, 30, 3), np.uint8) for i in range(5)}
    save_sheet(sheet(made, [("tumor", (255, 0, 0))]), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as page:
        found = read_pictures(page)
    assert list(found) == list(made)
    assert all(np.array_equal(np.asarray(found[title]), made[title]) for title in made)


@pytest.mark.parametrize("chunk", [None, "no json", "[1]", '{"a": [0, 0, 99999, 9]}', '{"a": 1}'])
def test_a_picture_that_is_no_sheet_gives_none(tmp_path, chunk):
    told = PngInfo()
    if chunk is not None:
        told.add_itxt("tissueseg:pictures", chunk)
    Image.new("RGB", (40, 40)).save(tmp_path / "page.png", pnginfo=told)
    with Image.open(tmp_path / "page.png") as page:
        assert read_pictures(page) == {}
