import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.instances.blocks import anchors, blocks, decoded
from tissueseg.instances.boxes import Block, Box

quick = settings(deadline=None, max_examples=40)


def crop_of(truth):
    """A decoder that is perfectly local, and notes the windows it was asked for."""

    def decode(box):
        decode.asked.append(box)
        return truth[box.slices]

    decode.asked = []
    return decode


def one_block(truth, core, margin_px, **options):
    block = Block(core, core.grown(margin_px, truth.shape))
    decode = crop_of(truth)
    return decoded(block, truth.shape, decode, **options), decode.asked


@quick
@given(
    shape=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    block_px=st.integers(1, 50),
    margin_px=st.integers(0, 20),
)
def test_cores_tile_the_tissue_and_windows_hold_them(shape, block_px, margin_px):
    times = np.zeros(shape, dtype=int)
    corners = []
    for core, seen in blocks(shape, block_px, margin_px):
        times[core.slices] += 1
        corners.append((core.y, core.x))
        assert seen == core.grown(margin_px, shape)
        assert np.zeros(shape)[seen.slices].shape == (seen.height, seen.width)
    assert (times == 1).all()
    assert corners == sorted(corners)


@pytest.mark.parametrize(("block_px", "margin_px"), [(0, 4), (-5, 4), (8, -1), (8.5, 0)])
def test_sizes_that_are_none_are_refused_before_anything_is_done(block_px, margin_px):
    with pytest.raises(ConfigError, match="wanted a whole number"):
        blocks((10, 10), block_px, margin_px)


def test_an_instance_belongs_to_the_core_that_holds_its_centroid():
    truth = np.zeros((20, 40), dtype=np.int32)
    truth[8:11, 18:21] = 1  # centroid in column 19, the left core's last
    truth[2:5, 19:22] = 2  # in column 20, the right core's first
    left, _ = one_block(truth, Box(0, 0, 20, 20), 8, slack_px=0)
    right, _ = one_block(truth, Box(0, 20, 20, 20), 8, slack_px=0)
    np.testing.assert_array_equal(left.labels, truth[left.box.slices] == 1)
    np.testing.assert_array_equal(right.labels, truth[right.box.slices] == 2)
    assert (left.cells, right.cells) == (1, 1)


def test_slack_claims_what_a_neighbour_may_leave_to_this_block():
    truth = np.zeros((20, 40), dtype=np.int32)
    truth[2:5, 19:22] = 1  # centroid one pixel into the right core
    for slack_px, cells in ((0, 0), (1, 1)):
        found, _ = one_block(truth, Box(0, 0, 20, 20), 8, slack_px=slack_px)
        assert found.cells == cells


def test_a_block_looks_again_only_as_far_as_it_must():
    truth = np.zeros((60, 200), dtype=np.int32)
    truth[10:14, 5:60] = 1
    core = Box(0, 0, 20, 20)
    found, asked = one_block(truth, core, 12, slack_px=0)
    assert asked == [core.grown(margin, truth.shape) for margin in (12, 24, 48)]
    assert (found.box, found.cells, found.cut) == (
        asked[-1],
        0,
        0,
    )  # whole, and its centre is outside


def test_a_block_that_cuts_only_what_it_does_not_own_looks_once():
    truth = np.zeros((60, 60), dtype=np.int32)
    truth[:, 28:40] = 1  # beyond the core, cut by the margin's end
    _, asked = one_block(truth, Box(0, 0, 20, 20), 12)
    assert len(asked) == 1


def test_windows_stop_growing_at_the_widest_margin_and_count_what_is_cut():
    truth = np.ones((100, 100), dtype=np.int32)
    core = Box(40, 40, 20, 20)
    found, asked = one_block(truth, core, 4, most_px=10)
    assert asked == [core.grown(margin, truth.shape) for margin in (4, 8, 10)]
    assert (found.cells, found.cut) == (1, 1)


def test_a_block_without_margin_grows_too():
    truth = np.zeros((40, 40), dtype=np.int32)
    truth[12:18, 12:22] = 1
    found, asked = one_block(truth, Box(0, 0, 20, 20), 0)
    assert len(asked) == 2
    assert (found.labels == 1).sum() == 60


def test_what_comes_near_the_rim_counts_as_cut_where_the_rim_is_not_to_be_trusted():
    truth = np.zeros((40, 60), dtype=np.int32)
    truth[5:10, 15:30] = 1  # ends two pixels before the window of the first look
    for rim_px, looks in ((1, 1), (2, 1), (3, 2)):
        _, asked = one_block(truth, Box(0, 0, 20, 20), 12, rim_px=rim_px)
        assert len(asked) == looks


def test_a_window_holds_all_of_the_core_that_it_can_be_trusted_with():
    _, asked = one_block(np.zeros((60, 60), dtype=np.int32), Box(20, 20, 20, 20), 2, rim_px=6)
    assert asked == [Box(15, 15, 30, 30)]
    with pytest.raises(ConfigError, match="rim_px=0"):
        one_block(np.zeros((60, 60), dtype=np.int32), Box(20, 20, 20, 20), 2, rim_px=0)


def test_a_ring_belongs_to_one_block_though_its_centroid_is_background():
    y, x = np.indices((90, 90))
    ring = (abs(np.hypot(y - 45, x - 45) - 30) < 2).astype(np.int32)
    found = [decoded(b, ring.shape, crop_of(ring), slack_px=0) for b in blocks(ring.shape, 30, 4)]
    assert sorted(f.cells for f in found) == [0] * 8 + [1]
    (owner,) = (f for f in found if f.cells)
    assert owner.labels.sum() == ring.sum()
    assert owner.cut == 0


def test_the_anchor_of_a_bent_instance_is_the_pixel_nearest_to_its_centroid():
    labels = np.zeros((9, 13), dtype=np.int32)
    labels[8, 1:12] = labels[:8, 1] = labels[:8, 8:12] = 5
    labels[3:6, 8] = 0  # the centroid lies in row 5 and column 7, which is background
    assert np.ravel(anchors(labels, np.array([5]))).tolist() == [6, 8]  # row 5 alone: (5, 1)
    turned = np.ascontiguousarray(labels.T)
    assert np.ravel(anchors(turned, np.array([5]))).tolist() == [8, 6]


def test_own_instances_are_numbered_in_reading_order_whatever_ids_the_decoder_gives():
    truth = np.zeros((20, 20), dtype=np.uint64)
    truth[12:14, 3:6], truth[1:4, 9:12], truth[2:6, 2:5] = 4, 10**12, 7
    found, _ = one_block(truth, Box(0, 0, 20, 20), 4)
    assert found.labels.dtype == np.int32
    assert [found.labels[p] for p in ((1, 9), (2, 2), (12, 3))] == [1, 2, 3]
    assert found.cells == 3


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (np.zeros((4, 5), dtype=np.int32), "wanted whole numbers"),
        (np.zeros((5, 5), dtype=np.float32), "wanted whole numbers"),
        (np.full((5, 5), -1, dtype=np.int32), "label -1"),
    ],
)
def test_what_is_no_label_image_is_refused(returned, said):
    (block,) = blocks((5, 5), 8, 2)
    with pytest.raises(TissueDataError, match=said):
        decoded(block, (5, 5), lambda box: returned)
