from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.errors import ConfigError
from tissueseg.metrics.boundary import (
    BoundaryF1,
    boundary_counts,
    boundary_f1,
    boundary_margin_px,
    boundary_scores,
)


def make_pair(seed, shape=(24, 20)):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (shape[0] // 4, shape[1] // 4))
    truth = np.kron(coarse, np.ones((4, 4), int))
    predicted = np.roll(truth, tuple(rng.integers(-3, 4, 2)), axis=(0, 1))
    valid = np.kron(rng.random(coarse.shape) < 0.85, np.ones((4, 4), bool))
    return truth, predicted, valid


def rim_pixels(labels):
    rim = []
    for y, x in np.argwhere(labels > 0):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [p for p in around if 0 <= p[0] < labels.shape[0] and 0 <= p[1] < labels.shape[1]]
        if any(labels[p] != labels[y, x] for p in inside):
            rim.append((int(y), int(x)))
    return rim


def counts_by_distances(truth, predicted, valid, tolerance):
    def near(pixel, others):
        return any(np.hypot(pixel[0] - y, pixel[1] - x) <= tolerance for y, x in others)

    unknown, rims, counts = np.argwhere(~valid).tolist(), [], []
    rims = [rim_pixels(labels) for labels in (truth, predicted)]
    for rim, other in (rims, rims[::-1]):
        judged = [pixel for pixel in rim if not near(pixel, unknown)]
        counts += [len(judged), sum(near(pixel, other) for pixel in judged)]
    return counts


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**16), tolerance=st.sampled_from([1, 2, 2.5, 3]))
def test_counts_equal_those_of_all_distances(seed, tolerance):
    truth, predicted, valid = make_pair(seed)
    found = boundary_counts(truth, predicted, valid, tolerance_px=tolerance)
    assert found.tolist() == counts_by_distances(truth, predicted, valid, tolerance)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**16),
    tolerance=st.sampled_from([1, 2, 3.7]),
    cuts=st.lists(st.integers(0, 20), max_size=3),
)
def test_cores_of_windows_add_up_to_the_whole(seed, tolerance, cuts):
    images, margin = make_pair(seed), boundary_margin_px(tolerance)
    metric, edges = BoundaryF1(1), [0, *sorted(cuts), 20]
    for left, right in pairwise(edges):
        start = max(left - margin, 0)
        window = [image[:, start : right + margin] for image in images]
        core = slice(None), slice(left - start, right - start)
        metric.update(0, boundary_counts(*window, core, tolerance))
    whole = boundary_counts(*images, tolerance_px=tolerance)
    assert metric.compute()[0].tolist() == whole.tolist()


def test_by_hand():
    # One row: the truth's rims lie at 3 and 8, the prediction's at 5 and 11.
    truth = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]])
    predicted = np.array([[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]])
    assert boundary_counts(truth, predicted).tolist() == [2, 1, 2, 1]
    assert boundary_counts(truth, predicted, tolerance_px=3).tolist() == [2, 2, 2, 2]
    assert boundary_counts(truth, predicted, tolerance_px=1).tolist() == [2, 0, 2, 0]


def test_touching_nuclei_must_be_parted():
    truth = np.array([[1] * 6 + [2] * 6])
    assert boundary_counts(truth, np.ones_like(truth)).tolist() == [2, 0, 0, 0]


def test_scores_by_hand():
    counts = [[4, 2, 5, 5], [0, 0, 0, 0], [4, 4, 3, 3]]
    # P 1, R .5: 2/3; nothing; 1. Pooled: P 1, R 6/8.
    assert boundary_scores(counts) == pytest.approx(
        {"boundary_f1_image": (2 / 3 + 1) / 2, "boundary_f1_pooled": 1.5 / 1.75}
    )
    np.testing.assert_array_equal(
        boundary_f1([[0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 3, 0], [3, 0, 3, 0]]), [np.nan, 0, 0, 0]
    )


def test_empty_images_and_full_ones_have_no_rim():
    nothing = np.zeros((5, 5), int)
    assert boundary_counts(nothing, nothing + 7).tolist() == [0, 0, 0, 0]
    assert np.isnan(list(boundary_scores(boundary_counts(nothing, nothing)[None]).values())).all()


def test_processes_merge_by_summing():
    one, two = BoundaryF1(2), BoundaryF1(2)
    parts = [boundary_counts(*make_pair(seed)) for seed in range(3)]
    one.update(0, parts[0])
    two.update(0, parts[1])
    two.update(1, parts[2])
    one.merge_state(two)
    assert one.compute().tolist() == [(parts[0] + parts[1]).tolist(), parts[2].tolist()]


def test_a_tolerance_below_a_pixel_is_refused():
    with pytest.raises(ConfigError, match=r"tolerance_px=0\.5, wanted at least 1"):
        boundary_counts(*make_pair(0), tolerance_px=0.5)
