"""Panels: tiles put together into a field, and the colours of what was missed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import CLASSES

from tissueseg.contracts import IGNORE
from tissueseg.data.tiles import TileGrid
from tissueseg.drawing import INK, composite
from tissueseg.modules.panels import (
    CELL_ERRORS,
    ERRORS,
    Panel,
    ShownCells,
    draw_instances,
    draw_panel,
    error_map,
    instance_errors,
)


def make(height=20, width=30, y=0, x=0, **parts):
    classes = np.zeros((height, width), np.uint8)
    image = np.full((height, width, 3), 128, np.uint8)
    given = {"images": {"H&E": image}, "labels": classes.astype(np.int32), "classes": classes}
    return Panel(**{"name": "t", "tissue": 0, "y": y, "x": x, "table": CLASSES} | given | parts)


@given(st.data())
def test_tiles_of_a_tissue_make_up_the_field(data):
    """Any field of any tissue, tiles of any size that overlap or reach beyond it."""
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    field = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
    tile_px = data.draw(st.integers(1, 25))
    tissue = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    beyond = np.pad(tissue, ((0, tile_px), (0, tile_px)), constant_values=255)
    panel = make(*field, y, x)
    grid = TileGrid(height, width, tile_px, data.draw(st.sampled_from(["pad", "shift"])))
    for rows, columns in (grid[i] for i in range(len(grid))):
        top, left = rows.start, columns.start
        tile = beyond[top : top + tile_px, left : left + tile_px]
        panel.place({"classes": tile, "boundary": tile}, top, left)
    expected = tissue[y : y + field[0], x : x + field[1]]
    for name in ("classes", "boundary"):
        np.testing.assert_array_equal(panel.maps[name], expected)


@pytest.mark.parametrize("corner", [(-4, 0), (0, -4), (20, 0), (0, 30), (99, 99), (-99, -99)])
def test_tiles_outside_leave_the_field_as_it_was(corner):
    panel = make()
    panel.place({"classes": np.full((4, 4), 7, np.uint8)}, *corner)
    assert not panel.maps["classes"].any()


def test_a_later_epoch_replaces_the_one_before():
    panel = make(4, 4)
    for value in (1, 2):
        panel.place({"classes": np.full((4, 4), value, np.uint8)}, 0, 0)
    assert (panel.maps["classes"] == 2).all()


def test_errors_have_their_colours():
    truth = np.array([[0, 1, 1, 0, 1, IGNORE, IGNORE]], np.uint8)
    predicted = np.array([[0, 1, 0, 2, 2, 0, 1]], np.uint8)
    picture = error_map(truth, predicted)[0]
    colours = [tuple(pixel) for pixel in picture.tolist()]
    assert colours[2:5] == [ERRORS["missed"], ERRORS["false alarm"], ERRORS["wrong class"]]
    assert colours[5] == colours[6] == (255, 255, 255)
    right = colours[:2]
    assert all(len(set(colour)) == 1 for colour in right)  # grey
    assert right[0] != right[1]
    assert picture.dtype == np.uint8


def test_channels_are_scaled_to_their_clips():
    channels = [np.array([[0, 50, 100, 900]], np.uint16), np.array([[7, 7, 7, 7]], np.uint16)]
    picture = composite(channels, [100.0, 0.0])
    assert picture.dtype == np.uint8
    blue = picture[0, :, 2].tolist()
    assert blue[0] == 0
    assert 0 < blue[1] < blue[2] == blue[3] == 255
    assert not picture[..., :2].any()  # green has no signal to show, red no channel


def drawn(panel, *names):
    for name in names:
        panel.maps[name] = np.zeros(panel.labels.shape, np.uint8)
    return draw_panel(panel)


def test_the_sheet_grows_with_what_it_shows():
    one, boundary = drawn(make(), "classes"), drawn(make(), "classes", "boundary")
    # image, truth, prediction | error; with the boundary still two rows of at most three
    assert one.size == boundary.size
    more = drawn(make(images=dict.fromkeys("abcd", np.zeros((20, 30, 3), np.uint8))), "classes")
    assert more.width == one.width
    assert more.height > one.height
    larger = drawn(make(40, 30), "classes")
    assert (larger.width, larger.height) == (one.width, one.height + 2 * 20)


def colours_of(picture):
    return {colour for _, colour in picture.getcolors(1 << 20)}


def test_the_legend_names_the_classes_that_are_there():
    tumor, immune = (255, 0, 0), (0, 255, 0)  # pure colours occur in the legend alone
    classes = np.zeros((20, 30), np.uint8)
    nothing = colours_of(drawn(make(), "classes"))
    assert not {tumor, immune} & nothing
    assert {*ERRORS.values()} <= nothing
    classes[:5] = 1
    classes[5:9] = IGNORE
    assert tumor in colours_of(drawn(make(classes=classes), "classes"))
    panel = make()
    panel.maps["classes"] = np.full((20, 30), 2, np.uint8)
    found = colours_of(draw_panel(panel))
    assert immune in found  # predicted, though not true
    assert tumor not in found


def test_a_narrow_sheet_wraps_its_legend():
    narrow = drawn(make(20, 8), "classes")
    wide = drawn(make(20, 200), "classes")
    assert narrow.height > wide.height


def squares(*places, size=5, types=(), shape=(40, 40)):
    """Cells 1, 2, … with their corners at places, of given types."""
    labels = np.zeros(shape, np.int32)
    for id, (y, x) in enumerate(places, 1):
        labels[y : y + size, x : x + size] = id
    return ShownCells(labels, np.array([0, *types]))


def test_every_cell_is_filled_with_what_became_of_it():
    truth = squares((2, 2), (2, 12), (2, 22), (2, 32), types=(1, 1, 2, IGNORE))
    found = squares((2, 2), (2, 22), (22, 2), (2, 32), types=(1, 1, 1, 2))
    picture = instance_errors(truth, found, np.array([[1, 1], [3, 2], [4, 4]]))
    kinds = {tuple(color): kind for kind, color in CELL_ERRORS.items()}
    middles = {(4, 4): "matched", (4, 14): "missed", (4, 24): "wrong type", (24, 4): "false"}
    for place, kind in (middles | {(4, 34): "matched"}).items():
        assert kinds[tuple(picture[place].tolist())] == kind
    assert tuple(picture[2, 2]) == INK  # the annotation's rim
    assert tuple(picture[2, 12]) == CELL_ERRORS["missed"]
    assert len(set(picture[35, 35].tolist())) == 1


def test_a_cell_on_unknown_ground_is_no_false_alarm():
    found = replace(squares((2, 2), (22, 2), types=(1, 1)), doubtful=np.array([2]))
    picture = instance_errors(squares(types=()), found, [])
    assert tuple(picture[4, 4]) == CELL_ERRORS["false"]
    assert tuple(picture[24, 4]) == CELL_ERRORS["not judged"]


def test_a_missed_cell_lies_over_a_false_one_whose_rim_is_seen():
    picture = instance_errors(
        squares((2, 2), size=9, types=(1,)),
        squares((6, 6), size=9, types=(1,)),
        np.zeros((0, 2)),
    )
    assert tuple(picture[4, 4]) == tuple(picture[8, 8]) == CELL_ERRORS["missed"]
    assert tuple(picture[6, 8]) == tuple(picture[13, 13]) == CELL_ERRORS["false"]


@pytest.mark.parametrize("empty", ["truth", "prediction", "both"])
def test_fields_without_cells_are_drawn(empty):
    nothing, one = squares(types=()), squares((3, 3), types=(1,))
    truth = nothing if empty in ("truth", "both") else one
    found = nothing if empty in ("prediction", "both") else one
    picture = instance_errors(truth, found, [])
    seen = {"truth": "false", "prediction": "missed"}.get(empty)
    colors = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert colors == {(235, 235, 235)} | ({CELL_ERRORS[seen]} if seen else set())


def test_the_sheet_of_cells_has_rims_in_the_colours_of_types():
    truth, found = squares((3, 3), types=(1,)), squares((3, 3), types=(2,))
    image = np.full((40, 40, 3), 100, np.uint8)
    page = draw_instances(image, truth, found, np.array([[1, 1]]), CLASSES)
    tumor, immune = (255, 0, 0), (0, 255, 0)
    pixels = np.asarray(page)
    width = (pixels.shape[1] - 6) // 3
    for color, column in ((tumor, 1), (immune, 2)):
        found_at = np.argwhere((pixels[:68] == color).all(-1))
        assert len(found_at) == 16  # the rim of 5 × 5 px
        assert set(found_at[:, 1] // width) == {column}
    assert CELL_ERRORS["wrong type"] in colours_of(page)
