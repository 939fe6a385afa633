import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tissueseg.instances.necks import cut_at_necks, depth_of, joined_parts, peaks_of
from tissueseg.instances.neighbours import contacts

PARTS = arrays(np.int32, (8, 10), elements=st.integers(0, 6))
DEPTHS = arrays(np.float32, (2, 8, 10), elements=st.floats(0, 5, width=32))


def openness(parts, depths, one, other):
    """Of a pair of parts, pixel by pixel."""
    found, shares = contacts(parts), []
    pairs = list(zip(parts.flat[found.first], parts.flat[found.second], strict=True))
    for depth in depths:
        sides = np.minimum(depth.flat[found.first], depth.flat[found.second])
        way = max(
            side for side, pair in zip(sides, pairs, strict=True) if set(pair) == {one, other}
        )
        thinner = min(depth[parts == one].max(), depth[parts == other].max())
        if thinner >= 1:
            shares.append(way / thinner)
    return np.mean(shares) if shares else 1.0


@settings(deadline=None, max_examples=40)
@given(PARTS, DEPTHS, st.floats(0.2, 0.9))
def test_what_is_left_apart_has_a_neck_between(parts, depths, neck):
    joined = joined_parts(parts, depths, neck)
    assert ((joined > 0) == (parts > 0)).all()
    for part in np.unique(parts[parts > 0]):
        assert len(np.unique(joined[parts == part])) == 1
    for one, other in contacts(joined).sides:
        assert openness(joined, depths, one, other) < neck + 1e-5


@settings(deadline=None, max_examples=40)
@given(PARTS, DEPTHS)
def test_what_is_small_joins_a_neighbour_if_it_has_any(parts, depths):
    joined = joined_parts(parts, depths, 0.99, least_px=9)
    small = np.flatnonzero(np.bincount(joined.reshape(-1)) < 9)
    assert not np.isin(contacts(joined).sides, small).any()


def test_a_splinter_joins_one_of_two_nuclei_and_does_not_tie_them():
    mask = np.zeros((24, 44), bool)
    mask[2:22, 2:20] = mask[2:22, 24:42] = True
    parts = np.zeros(mask.shape, np.int32)
    parts[2:22, 2:20], parts[2:22, 24:42] = 1, 2
    parts[10:14, 20:24] = 3  # a bridge as deep as it is wide
    found = joined_parts(parts, depth_of(parts > 0, 0)[None], 0.7)
    assert len(np.unique(found[parts > 0])) == 2


def test_a_row_of_alike_parts_becomes_one():
    parts = np.repeat(np.arange(1, 301, dtype=np.int32), 3)[None].repeat(4, axis=0)
    assert (joined_parts(parts, np.ones((1, *parts.shape), np.float32), 0.5) == 1).all()


def test_peaks_of_a_plateau_are_the_plateau():
    depth = np.zeros((5, 6), np.float32)
    depth[1:4, 1:4] = 2
    depth[2, 4] = 3
    assert peaks_of(depth)[1:4, 1:3].all()
    assert not peaks_of(depth)[1:4, 3].any()


def test_nothing_to_cut():
    assert not cut_at_necks(np.zeros((4, 5), bool), 0.8).any()
    assert cut_at_necks(np.ones((4, 5), bool), 0.8).max() == 1
