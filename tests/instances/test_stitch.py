from concurrent.futures import Executor, Future, ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.instances.blocks import Decoded
from tissueseg.instances.boxes import Box
from tissueseg.instances.stitch import Stitched, in_turn, paint, painted, stitch

quick = settings(deadline=None, max_examples=60)
sides = st.integers(1, 70)
discs = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.5, 1, 2.5, 4, 6, 9, 15, 40])),
    max_size=25,
)


def drawn(shape, places):
    """Labels of discs, later ones over earlier ones; pieces get ids of their own, with gaps."""
    labels = np.zeros(shape, dtype=np.int32)
    y, x = np.indices(shape)
    for id, (row, column, radius) in enumerate(places, start=1):
        labels[np.hypot(y - row * shape[0], x - column * shape[1]) <= radius] = id
    pieces = np.zeros(shape, dtype=np.int32)
    for id in np.unique(labels[labels > 0]):
        _, of_one = cv2.connectedComponents((labels == id).astype(np.uint8), connectivity=8)
        pieces[of_one > 0] = 3 * of_one[of_one > 0] + pieces.max()
    return pieces


def crop_of(truth):
    return lambda box: truth[box.slices]


def components_of(foreground):
    def decode(box):
        part = np.ascontiguousarray(foreground[box.slices])
        return cv2.connectedComponents(part.astype(np.uint8), connectivity=8)[1]

    return decode


def blind(truth, rim_px):
    """A decoder that knows nothing of the outermost pixels of its window, where the tissue goes on."""

    def decode(box):
        labels = truth[box.slices].copy()
        labels[: rim_px if box.y else 0] = 0
        labels[:, : rim_px if box.x else 0] = 0
        labels[box.height - (rim_px if box.y + box.height < truth.shape[0] else 0) :] = 0
        labels[:, box.width - (rim_px if box.x + box.width < truth.shape[1] else 0) :] = 0
        return labels

    return decode


def stitched(shape, decode, *sizes, **options):
    canvas = np.zeros(shape, dtype=np.uint32)
    result = stitch(shape, decode, canvas, *sizes, **options)
    ids = np.unique(canvas[canvas > 0])
    assert ids.tolist() == list(range(1, result.cells + 1)), "ids have gaps"
    return canvas, result


def assert_same_up_to_ids(found, truth):
    pairs = np.unique(np.stack([found.ravel(), truth.ravel()]), axis=1)
    for side in pairs:
        assert len(np.unique(side)) == pairs.shape[1], "an instance is split, merged or moved"
    assert not ((pairs[0] == 0) ^ (pairs[1] == 0)).any()


@quick
@given(sides, sides, discs, st.integers(3, 40), st.integers(0, 12), st.integers(0, 3))
def test_a_local_decoder_is_stitched_exactly(height, width, places, block_px, margin_px, slack_px):
    truth = drawn((height, width), places)
    found, result = stitched(truth.shape, crop_of(truth), block_px, margin_px, slack_px=slack_px)
    assert_same_up_to_ids(found, truth)
    assert (result.trimmed, result.cut) == (0, 0)


@quick
@given(sides, sides, discs, st.integers(3, 40), st.integers(1, 12))
def test_connected_components_of_any_size_are_stitched_exactly(
    height, width, places, block_px, margin_px
):
    foreground = drawn((height, width), places) > 0
    decode = components_of(foreground)
    found, result = stitched(foreground.shape, decode, block_px, margin_px)
    assert_same_up_to_ids(found, decode(Box(0, 0, height, width)))
    assert result.cut == 0


@quick
@given(st.integers(0, 19), st.integers(0, 19), st.integers(1, 6), st.integers(0, 5))
def test_nuclei_on_every_border_and_corner_are_whole(row, column, radius, slack_px):
    y, x = np.indices((100, 100))
    nearest = (np.rint((y - row) / 20) * 20 + row, np.rint((x - column) / 20) * 20 + column)
    lattice = np.hypot(y - nearest[0], x - nearest[1]) <= radius
    decode = components_of(lattice)
    found, _ = stitched(lattice.shape, decode, 20, 2 * radius + 1, slack_px=slack_px)
    assert_same_up_to_ids(found, decode(Box(0, 0, 100, 100)))


@quick
@given(sides, sides, discs, st.integers(3, 40), st.integers(0, 20), st.integers(0, 5))
def test_a_decoder_blind_near_its_window_s_end_loses_nothing_and_counts_nothing_twice(
    height, width, places, block_px, margin_px, blind_px
):
    truth = drawn((height, width), places)
    decode = blind(truth, blind_px)
    found, result = stitched(truth.shape, decode, block_px, margin_px, rim_px=blind_px + 1)
    assert_same_up_to_ids(found, truth)
    assert (result.trimmed, result.cut) == (0, 0)


@quick
@given(st.integers(0, 10**6), st.integers(15, 40))
def test_windows_that_disagree_lose_nothing_and_count_nothing_twice(seed, block_px):
    centres = [(y, x) for y in range(9, 80, 16) for x in range(9, 80, 16)]

    def decode(box):
        random = np.random.default_rng([seed, *box])  # the same whenever this window is decoded
        labels = np.zeros((82, 82), dtype=np.uint8)
        for id, (y, x) in enumerate(centres, start=1):
            place = (x + int(random.integers(-1, 2)), y + int(random.integers(-1, 2)))
            cv2.circle(labels, place, int(random.integers(4, 7)), id, -1)
        return labels[box.slices]

    found, result = stitched((82, 82), decode, block_px, 18)
    assert result.cells == len(centres)
    assert len({int(found[place]) for place in centres} - {0}) == len(centres)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 7), (64, 64), (65, 63)])
def test_tissues_smaller_than_a_block_and_of_a_single_pixel(shape):
    full = np.ones(shape, dtype=np.int32)
    found, result = stitched(shape, crop_of(full), 64, 8)
    assert (found == 1).all()
    assert result == Stitched(1, result.dropped, 0, 0)


def test_background_only_paints_nothing():
    found, result = stitched((90, 50), crop_of(np.zeros((90, 50), dtype=np.int32)), 20, 4)
    assert not found.any()
    assert result == Stitched(0, 0, 0, 0)


def test_a_tissue_without_pixels_has_no_cells():
    _, result = stitched((0, 50), crop_of(np.zeros((0, 50), dtype=np.int32)), 20, 4)
    assert result == Stitched(0, 0, 0, 0)


def test_more_instances_than_sixteen_bits_hold():
    truth = np.zeros((520, 520), dtype=np.int32)
    truth[::2, ::2] = np.arange(1, 260 * 260 + 1).reshape(260, 260)
    found, result = stitched(truth.shape, crop_of(truth), 256, 4)
    assert result.cells == 67_600
    assert_same_up_to_ids(found, truth)
    canvas = np.zeros(truth.shape, dtype=np.uint16)
    with pytest.raises(TissueDataError, match="holds ids up to 65535"):
        stitch(truth.shape, crop_of(truth), canvas, 256, 4)


def test_a_giant_beyond_the_widest_margin_is_cut_and_counted_but_not_lost():
    truth = np.ones((200, 200), dtype=np.int32)
    found, result = stitched(truth.shape, crop_of(truth), 40, 5, most_px=20)
    assert result.cells >= 1
    assert result.cut >= result.cells
    assert (found > 0).mean() > 0.5


def test_the_result_is_the_same_however_many_work_and_whatever_the_canvas(tmp_path):
    shape = (150, 130)
    foreground = np.random.default_rng(0).random(shape) < 0.4
    decode = components_of(foreground)
    alone, result = stitched(shape, decode, 32, 6)
    canvas = zarr.create_array(tmp_path / "c.zarr", shape=shape, chunks=(50, 50), dtype="uint32")
    with ThreadPoolExecutor(3) as pool:
        assert stitch(shape, decode, canvas, 32, 6, map=in_turn(pool, 4)) == result
    np.testing.assert_array_equal(np.asarray(canvas[:]), alone)


class AtOnce(Executor):
    """Works when asked to, and counts."""

    submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_a_pool_is_never_further_ahead_than_told():
    pool = AtOnce()
    for taken, item in enumerate(in_turn(pool, 3)(lambda item: item * item, range(20))):
        assert item == taken * taken
        assert pool.submitted == min(taken + 3, 20)
    assert taken == 19


def test_what_is_left_is_cancelled_when_nobody_takes_it():
    done = []
    with ThreadPoolExecutor(1) as pool:
        results = in_turn(pool, 5)(done.append, range(50))
        next(results)
        results.close()
    assert len(done) <= 6


def test_painted_windows_show_the_canvas_and_the_block_s_own_cells():
    truth = drawn((60, 60), [(0.2, 0.3, 6), (0.5, 0.5, 8), (0.8, 0.8, 5), (0.5, 0.1, 4)])
    canvas = np.zeros(truth.shape, dtype=np.uint32)
    whole = np.zeros(truth.shape, dtype=np.uint32)
    ids = 0
    for part in painted(truth.shape, crop_of(truth), canvas, 20, 6):
        np.testing.assert_array_equal(part.labels, canvas[part.box.slices])
        assert np.unique(part.own[part.own > 0]).tolist() == list(
            range(ids + 1, ids + part.cells + 1)
        )
        assert part.first_id == ids + 1
        ids += part.cells
        whole[part.box.slices] += part.own
    np.testing.assert_array_equal(whole, canvas)
    assert ids == 4


def one_more(canvas, picture, first_id=10):
    labels = np.array([[int(c) for c in row] for row in picture], dtype=np.int32)
    return paint(canvas, Decoded(Box(1, 1, *labels.shape), labels, int(labels.max()), 0), first_id)


def test_only_free_pixels_are_painted():
    canvas = np.zeros((4, 8), dtype=np.uint32)
    canvas[1:3, 1:3] = 1
    part = one_more(canvas, ["0111", "0111"])
    assert (part.cells, part.dropped, part.trimmed) == (1, 0, 1)
    np.testing.assert_array_equal(canvas[1:3, 1:6], [[1, 1, 10, 10, 0]] * 2)


def test_an_instance_more_than_half_taken_is_dropped_and_leaves_no_gap():
    canvas = np.zeros((4, 12), dtype=np.uint32)
    canvas[1:3, 1:4] = 1
    part = one_more(canvas, ["1111102", "1111002"])
    assert (part.cells, part.dropped, part.trimmed) == (1, 1, 0)
    np.testing.assert_array_equal(canvas[1], [0, 1, 1, 1, 0, 0, 0, 10, 0, 0, 0, 0])


def test_an_instance_more_than_half_taken_is_dropped_though_its_anchor_is_free():
    canvas = np.zeros((3, 12), dtype=np.uint32)
    canvas[1, 1:5] = canvas[1, 9:11] = 1  # free: columns 4 … 7 of ten, with the middle
    part = one_more(canvas, ["1" * 10])
    assert (part.cells, part.dropped, part.trimmed) == (0, 1, 0)
    assert canvas.max() == 1


def test_a_larger_version_of_what_is_there_is_dropped_though_most_of_it_is_free():
    canvas = np.zeros((7, 7), dtype=np.uint32)
    canvas[3, 3] = 1
    part = one_more(canvas, ["11111"] * 5)
    assert (part.cells, part.dropped, part.trimmed) == (0, 1, 0)
    assert canvas.sum() == 1


def test_an_instance_half_taken_is_kept():
    canvas = np.zeros((3, 8), dtype=np.uint32)
    canvas[1, 1:3] = 1
    assert one_more(canvas, ["1111"]).cells == 1
    np.testing.assert_array_equal(canvas[1], [0, 1, 1, 10, 10, 0, 0, 0])


@pytest.mark.parametrize(("taken", "kept"), [(2, [3, 4, 5]), (4, [1, 2, 3])])
def test_of_what_falls_apart_the_largest_piece_is_kept(taken, kept):
    canvas = np.zeros((7, 9), dtype=np.uint32)
    canvas[taken] = 1
    part = one_more(canvas, ["1112220"] * 5)
    assert (part.cells, part.dropped, part.trimmed) == (2, 0, 2)
    for row in set(range(1, 6)) - {taken}:
        expected = [10, 10, 10, 11, 11, 11, 0] if row in kept else [0] * 7
        np.testing.assert_array_equal(canvas[row, 1:8], expected)


def test_sizes_and_canvases_that_are_none_are_refused_before_anything_is_decoded():
    empty = crop_of(np.zeros((9, 9), dtype=np.int32))
    with pytest.raises(ConfigError, match="block_px=0"):
        stitch((9, 9), empty, np.zeros((9, 9), np.uint32), 0, 4)
    for canvas in (np.zeros((9, 8), np.uint32), np.zeros((9, 9), np.float32)):
        with pytest.raises(TissueDataError, match="wanted whole numbers"):
            painted((9, 9), empty, canvas, 4, 4)
