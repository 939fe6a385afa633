from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.contingency import contingency, joined, types_of


def make_pair(seed, shape=(13, 17), ids=6, scale=1):
    """Random blobs of both sides, and unknown ground; ids with gaps if scale is above 1."""
    rng = np.random.default_rng(seed)
    block = rng.integers(1, 5)
    coarse = [-(-side // block) for side in shape]
    images = [np.kron(rng.integers(0, ids, coarse), np.ones((block, block), int)) for _ in "tp"]
    truth, predicted = (image[: shape[0], : shape[1]] * scale for image in images)
    shifted = np.roll(truth, 1, axis=1) if seed % 2 else predicted
    return truth, shifted, rng.random(shape) < 0.8


def table_by_masks(truth, predicted, valid):
    """The same by a mask for every instance."""
    cells = {}
    for p in np.unique(predicted[predicted > 0]):
        cells[0, p] = int(((predicted == p) & valid).sum())
        cells["?", p] = int(((predicted == p) & ~valid).sum())
    for t in np.unique(truth[(truth > 0) & valid]):
        cells[t, 0] = int(((truth == t) & valid).sum())
        for p in np.unique(predicted[predicted > 0]):
            both = int(((truth == t) & (predicted == p) & valid).sum())
            cells |= {(t, p): both} if both else {}
    return cells


def as_cells(table):
    cells = {(t, 0): px for t, px in zip(table.truth_ids, table.truth_px, strict=True)}
    rows = zip(table.predicted_ids, table.predicted_px, table.predicted_unknown_px, strict=True)
    for p, px, unknown in rows:
        cells |= {(0, p): px, ("?", p): unknown}
    ids = table.truth_ids[table.pair_truth], table.predicted_ids[table.pair_predicted]
    return cells | {(t, p): px for t, p, px in zip(*ids, table.pair_px, strict=True)}


def assert_same(one, other):
    for name in one.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == np.int64


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([1, 70_001, 3 * 10**9, 2**60]))
def test_tables_hold_what_masks_count(seed, scale):
    truth, predicted, valid = make_pair(seed, scale=scale)
    assert as_cells(contingency(truth, predicted, valid)) == table_by_masks(truth, predicted, valid)
    everywhere = np.ones_like(valid)
    assert as_cells(contingency(truth, predicted)) == table_by_masks(truth, predicted, everywhere)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), cuts=st.lists(st.integers(0, 17), max_size=4))
def test_windows_add_up_to_the_whole(seed, cuts):
    truth, predicted, valid = make_pair(seed)
    edges = [0, *sorted(cuts), 17]
    columns = [slice(a, b) for a, b in pairwise(edges)]
    parts = [contingency(truth[:, c], predicted[:, c], valid[:, c]) for c in columns]
    assert_same(joined(parts), contingency(truth, predicted, valid))
    assert_same(joined([joined(parts[:2]), *parts[2:]]), contingency(truth, predicted, valid))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint32", "int64", "uint64"])
def test_any_whole_numbers_will_do(dtype):
    truth, predicted, _ = make_pair(3)
    found = contingency(truth.astype(dtype), np.asfortranarray(predicted.astype(dtype)))
    assert_same(found, contingency(truth, predicted))


def test_matches_by_hand():
    # 1: 2 of 4 px found, and half is not above half. 2: 3 of 4 px, union 4. 3: not found.
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 3]])
    predicted = np.array([[9, 9, 0, 0, 0, 7, 7, 7, 0, 8, 0]])
    table = contingency(truth, predicted)
    assert table.predicted_ids.tolist() == [7, 8, 9]
    assert table.pair_iou.tolist() == [0.5, 0.75]
    assert [field.tolist() for field in table.matches] == [[1], [0], [0.75]]
    assert table.foreground_px.tolist() == [5, 9, 6]


def test_predictions_mostly_on_unknown_ground_are_doubtful():
    predicted = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 3, 3]])
    valid = np.array([[1, 1, 0, 0, 1, 0, 0, 0, 0, 0]], dtype=bool)  # half, three quarters, all
    table = contingency(np.zeros_like(predicted), predicted, valid)
    assert table.doubtful.tolist() == [False, True, True]
    assert table.predicted_px.tolist() == [2, 1, 0]


@pytest.mark.parametrize("shape", [(4, 5), (0, 5), (1, 1)])
def test_empty_images_give_empty_tables(shape):
    nothing = np.zeros(shape, np.int32)
    for table in (
        contingency(nothing, nothing),
        joined([]),
        joined([contingency(nothing, nothing)]),
    ):
        assert not any(getattr(table, name).size for name in table.__dataclass_fields__)
        assert not table.matches.iou.size


def test_one_nucleus_may_fill_all():
    table = contingency(np.full((30, 30), 5), np.full((30, 30), 70_000))
    assert as_cells(table) == {(5, 0): 900, (0, 70_000): 900, ("?", 70_000): 0, (5, 70_000): 900}
    assert table.matches.iou.tolist() == [1.0]


@pytest.mark.parametrize(
    ("truth", "predicted", "says"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "images of shapes"),
        (np.full((2, 2), -1), np.zeros((2, 2), int), "true labels .* from -1 to -1"),
        (np.zeros((2, 2), int), np.zeros((2, 2)), "predicted labels of type float64"),
        (
            np.zeros((2, 2), int),
            np.full((2, 2), 2**63, np.uint64),
            "predicted labels of type uint64",
        ),
    ],
)
def test_what_is_no_pair_of_label_images_is_refused(truth, predicted, says):
    with pytest.raises(TissueDataError, match=says):
        contingency(truth, predicted)


def test_types_are_looked_up_whatever_their_order():
    assert types_of([2, 5, 70_000, 9], [70_000, 1, 2], [3, 4, 1]).tolist() == [1, IGNORE, 3, IGNORE]
    assert types_of([], [1], [3]).tolist() == []
