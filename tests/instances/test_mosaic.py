import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.instances.mosaic import Mosaic
from tissueseg.instances.tiling import Tiling

from .test_tiling import tilings

quick = settings(deadline=None, max_examples=60)


def mirrored(image, tiling):
    """A function that cuts tiles out of an image, mirrored beyond its edges."""
    side = tiling.tile_px
    wide = np.pad(image, ((0, 0), (side, side), (side, side)), mode="symmetric")
    return lambda origin: wide[:, *(slice(start + side, start + 2 * side) for start in origin)]


def assembled(mosaic, tile_at):
    """Map, regions in the order they came, and the most numbers held."""
    made = np.full((mosaic.channels, *mosaic.tiling.shape), np.nan, dtype=np.float32)
    boxes, held = [], mosaic.held
    for origin in mosaic.tiles():
        mosaic.add(origin, tile_at(origin))
        held = max(held, mosaic.held)
        for box, values in mosaic.finished():
            assert np.isnan(made[:, *box.slices]).all(), "a region came twice"
            made[:, *box.slices] = values
            boxes.append(box)
    return made, boxes, held


@quick
@given(tiling=tilings(), region_px=st.integers(1, 80), seed=st.integers(0, 99))
def test_tiles_of_an_image_make_the_image_again(tiling, region_px, seed):
    image = np.random.default_rng(seed).normal(size=(2, *tiling.shape)).astype(np.float32)
    made, boxes, _ = assembled(Mosaic(tiling, region_px, 2), mirrored(image, tiling))
    np.testing.assert_allclose(made, image, rtol=0, atol=1e-6)
    corners = [
        (y, x)
        for y in range(0, tiling.shape[0], region_px)
        for x in range(0, tiling.shape[1], region_px)
    ]
    assert [(box.y, box.x) for box in boxes] == corners


@quick
@given(tiling=tilings(), region_px=st.integers(1, 80), value=st.floats(-1e6, 1e6, width=32))
def test_constants_stay_constant_to_the_last_bit(tiling, region_px, value):
    tile = np.full((1, tiling.tile_px, tiling.tile_px), value, dtype=np.float32)
    made, _, _ = assembled(Mosaic(tiling, region_px, 1), lambda origin: tile)
    assert (made == np.float32(value)).all()


@quick
@given(tiling=tilings(), region_px=st.integers(1, 80))
def test_tiles_that_disagree_are_averaged_by_their_weights(tiling, region_px):
    weight, total = np.zeros(tiling.shape), np.zeros(tiling.shape)
    opinion = {}
    for rows in tiling.spans(0):
        for columns in tiling.spans(1):
            opinion[rows.start, columns.start] = 1 + len(opinion) % 7
            part = np.s_[rows.first : rows.stop, columns.first : columns.stop]
            of = np.outer(rows.weights, columns.weights)
            weight[part] += of
            total[part] += of * opinion[rows.start, columns.start]
    np.testing.assert_allclose(weight, 1, atol=1e-7)
    side = (1, tiling.tile_px, tiling.tile_px)
    made, _, _ = assembled(
        Mosaic(tiling, region_px, 1), lambda origin: np.full(side, opinion[origin], np.float32)
    )
    np.testing.assert_allclose(made[0], total, atol=1e-5)


def test_a_mosaic_says_how_many_tiles_it_wants():
    mosaic = Mosaic(Tiling((40, 17), 16, 4), 8, 1)
    assert len(mosaic) == len(list(mosaic.tiles())) == 6


def test_regions_come_as_soon_as_no_later_tile_reaches_them():
    tiling = Tiling((64, 64), 20, 4)  # stride 16
    mosaic = Mosaic(tiling, 32, 1)
    came = []
    for origin in mosaic.tiles():
        mosaic.add(origin, np.zeros((1, 20, 20), dtype=np.float32))
        came.append([(box.y, box.x) for box, _ in mosaic.finished()])
    assert [part for part in came if part] == [[(0, 0)], [(0, 32)], [(32, 0)], [(32, 32)]]
    assert [n for n, part in enumerate(came, start=1) if part] == [4, 8, 12, 16]


@pytest.mark.parametrize(("blend", "overlap_px", "strip_px"), [("linear", 16, 16), ("core", 16, 0)])
def test_memory_is_a_region_and_a_strip_whatever_the_height(blend, overlap_px, strip_px):
    channels, region, width = 3, 96, 960
    most = []
    for height in (192, 960):
        tiling = Tiling((height, width), 64, overlap_px, blend)
        mosaic = Mosaic(tiling, region, channels)
        tile = np.zeros((channels, 64, 64), dtype=np.float32)
        most.append(assembled(mosaic, lambda origin, tile=tile: tile)[2])
    side = region + strip_px
    bound = (channels + 1) * (side**2 + strip_px * (width + strip_px))
    bound += channels * region**2  # a finished one, until it is taken
    assert most == [bound, bound]


def test_a_strip_is_less_than_a_tile_where_regions_are_not_whole_strides():
    tiling = Tiling((500, 500), 64, 16)
    mosaic = Mosaic(tiling, 100, 1)
    assert mosaic.held < 2 * ((100 + 64) ** 2 + 64 * (500 + 64))


@pytest.mark.parametrize("blend", ["linear", "core"])
@pytest.mark.parametrize("shape", [(1000, 777), (64, 65), (193, 30)])
def test_a_coarse_mosaic_asks_for_tiles_in_the_order_of_a_fine_one(blend, shape):
    fine = Mosaic(Tiling(shape, 64, 16, blend), 96, 1)
    tokens = (-(-shape[0] // 8), -(-shape[1] // 8))
    coarse = Mosaic(Tiling(tokens, 8, 2, blend), 12, 1)
    assert list(fine.tiles()) == [(8 * y, 8 * x) for y, x in coarse.tiles()]


def test_half_precision_tiles_are_kept_as_float32():
    mosaic = Mosaic(Tiling((8, 8), 8), 8, 1)
    mosaic.add((0, 0), np.full((1, 8, 8), 0.1, dtype=np.float16))
    ((_, values),) = mosaic.finished()
    assert values.dtype == np.float32
    assert (values == np.float16(0.1)).all()


def test_finished_regions_do_not_change_and_come_once():
    mosaic = Mosaic(Tiling((8, 16), 8), 8, 1)
    mosaic.add((0, 0), np.ones((1, 8, 8), dtype=np.float32))
    ((_, values),) = mosaic.finished()
    mosaic.add((0, 8), np.full((1, 8, 8), 5, dtype=np.float32))
    assert (values == 1).all()
    assert [box.x for box, _ in mosaic.finished()] == [8]
    assert list(mosaic.finished()) == []


def test_tiles_out_of_order_or_of_another_shape_are_refused_and_change_nothing():
    mosaic = Mosaic(Tiling((8, 16), 8), 8, 1)
    tile = np.ones((1, 8, 8), dtype=np.float32)
    with pytest.raises(TissueDataError, match=r"Got the tile at \(0, 8\), wanted \(0, 0\)"):
        mosaic.add((0, 8), tile)
    with pytest.raises(TissueDataError, match=r"values \(8, 8\), wanted \(1, 8, 8\)"):
        mosaic.add((0, 0), tile[0])
    for origin in mosaic.tiles():
        mosaic.add(origin, tile)
    with pytest.raises(TissueDataError, match="wanted no more"):
        mosaic.add((0, 0), tile)
    assert len(list(mosaic.finished())) == 2


@pytest.mark.parametrize(("region_px", "channels"), [(0, 1), (8, 0), (2.5, 1)])
def test_mosaics_that_are_none_are_refused(region_px, channels):
    with pytest.raises(ConfigError, match="wanted a whole number"):
        Mosaic(Tiling((8, 8), 8), region_px, channels)
