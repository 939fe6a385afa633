import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.detection import (
    Detection,
    Points,
    classification_f1,
    detection_counts,
    detection_radius_px,
    detection_scores,
    paired_centroids,
)


def best_by_trying(near):
    """Most pairs, and their least total distance, of a matrix with inf beyond the radius."""
    if not len(near):
        return 0, 0.0
    rest, tried = near[1:], [best_by_trying(near[1:])]
    for j in np.flatnonzero(np.isfinite(near[0])):
        others = rest.copy()
        others[:, j] = np.inf
        n, total = best_by_trying(others)
        tried.append((n + 1, total + near[0, j]))
    return min(tried, key=lambda found: (-found[0], found[1]))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**16), radius_px=st.sampled_from([1.0, 3.0, 6.0]))
def test_as_many_pairs_as_can_be_and_the_nearest_of_them(seed, radius_px):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.random((6, 2)) * 12, rng.random((5, 2)) * 12
    distance = np.linalg.norm(truth[:, None] - predicted, axis=-1)
    best = best_by_trying(np.where(distance <= radius_px, distance, np.inf))
    pairs = paired_centroids(truth, predicted, radius_px)
    assert all(len(set(rows.tolist())) == len(rows) for rows in pairs)
    assert (len(pairs.truth), distance[pairs].sum()) == pytest.approx(best)


def test_the_nearest_pair_gives_way_to_two():
    # 0 and 10 are true; 9 is nearer to 10, but then 20 has nobody within 10 px and 0 no other.
    pairs = paired_centroids([[0, 0], [0, 10]], [[0, 9], [0, 20]], 10)
    assert [rows.tolist() for rows in pairs] == [[0, 1], [0, 1]]


def test_the_radius_is_inclusive_and_three_um():
    assert [detection_radius_px(mpp) for mpp in (0.25, 0.5, 1.0)] == [12, 6, 3]
    assert len(paired_centroids([[0, 0]], [[0, 12]], 12).truth) == 1
    assert len(paired_centroids([[0, 0]], [[0, 12.01]], 12).truth) == 0
    assert len(paired_centroids([[5, 5]], [[5, 5]], 12).truth) == 1


def test_thousands_are_matched_to_themselves():
    grid = np.stack(np.meshgrid(np.arange(60), np.arange(50)), -1).reshape(-1, 2) * 10.0
    order = np.random.default_rng(0).permutation(len(grid))
    pairs = paired_centroids(grid, grid[order] + 1, 12)  # ten others are within reach
    np.testing.assert_array_equal(order[pairs.predicted], pairs.truth)
    assert len(pairs.truth) == 3000


def make_cells():
    """Six true cells 100 px apart and what was found; one is off by 5 px."""
    truth = Points(np.arange(6)[:, None] * [100.0, 0], np.array([1, 1, 2, 2, IGNORE, 1]))
    found = np.array([0, 105, 200, 400, 650, 750, 900]), np.array([1, 2, 2, 1, 1, 2, IGNORE])
    doubtful = np.array([True, False, False, False, False, True, False])
    return truth, Points(found[0][:, None] * [1.0, 0], found[1], doubtful)


def test_counts_by_hand():
    # 0: 1 as 1, doubtful but found. 100: 1 as 2. 200: 2 as 2. 300: 2, missed. 400: unknown as 1.
    # 500: 1, missed. 650: false alarm of 1. 750: doubtful, left out. 900: false alarm without a type.
    assert detection_counts(*make_cells(), 12, 2).tolist() == [
        [0, 1, 0, 1],
        [1, 1, 1, 0],
        [1, 0, 1, 0],
        [0, 1, 0, 0],
    ]


def test_scores_by_hand():
    counts = detection_counts(*make_cells(), 12, 2)
    # Detected 4, false alarms 2, missed 2. Type 1: TP 1, FN_c 1, FP_d 1, FN_d 1; type 2: TP 1, FP_c 1,
    # FN_d 1.
    kinds = 2 / (2 + 2 + 1 + 1), 2 / (2 + 2 + 1)
    np.testing.assert_allclose(classification_f1(counts), kinds)
    perfect = np.zeros_like(counts)
    perfect[1, 1] = 2
    scores = detection_scores([counts, perfect, np.zeros_like(counts)], ["x", "y"])
    kinds = 6 / (6 + 2 + 1 + 1), kinds[1]
    assert scores == pytest.approx(
        {
            "detection_f1_pooled": 12 / (12 + 4),
            "detection_f1_image": (8 / (8 + 4) + 1) / 2,
            "detection_precision_pooled": 6 / 8,
            "detection_precision_image": (4 / 6 + 1) / 2,
            "detection_recall_pooled": 6 / 8,
            "detection_recall_image": (4 / 6 + 1) / 2,
            "classification_f1_pooled": sum(kinds) / 2,
            "classification_f1_pooled/x": kinds[0],
            "classification_f1_pooled/y": kinds[1],
        }
    )


def test_a_prediction_without_a_type_misses_the_type_of_its_cell():
    counts = np.zeros((4, 4), int)
    counts[1, 1], counts[1, 3], counts[3, 2] = 1, 1, 5
    np.testing.assert_array_equal(classification_f1(counts), [2 / 4, np.nan])


def test_nothing_has_no_score_and_false_alarms_alone_score_nothing():
    none, some = Points(np.zeros((0, 2))), Points(np.array([[1.0, 2.0]]))
    assert np.isnan(list(detection_scores(detection_counts(none, none, 12)[None]).values())).all()
    for pair in ((none, some), (some, none)):
        assert detection_scores(detection_counts(*pair, 12)[None])["detection_f1_pooled"] == 0


def test_processes_merge_by_summing():
    one, two = Detection(2, 2), Detection(2, 2)
    one.update(0, *make_cells(), 12)
    two.update(1, *make_cells(), 12)
    two.update(0, Points(np.zeros((0, 2))), Points(np.ones((1, 2))), 12)
    one.merge_state(two)
    counts = detection_counts(*make_cells(), 12, 2)
    assert one.compute()[1].tolist() == counts.tolist()
    counts[0, 3] += 1
    assert one.compute()[0].tolist() == counts.tolist()


def test_what_cannot_be_placed_is_refused():
    with pytest.raises(TissueDataError, match="predicted centroid 1 is"):
        paired_centroids([[0, 0]], [[0, 0], [np.nan, 1]], 12)
    with pytest.raises(TissueDataError, match="truth types has 1 values with ids"):
        detection_counts(Points(np.zeros((1, 2)), np.array([3])), Points(np.zeros((0, 2))), 12, 2)
