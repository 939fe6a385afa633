import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.contingency import contingency
from tissueseg.metrics.panoptic import (
    PanopticQuality,
    dq,
    panoptic_counts,
    panoptic_scores,
    pq,
    published_pq,
    sq,
)

NAN = float("nan")
# Image 0: every nucleus of two types. Image 1: nothing in the truth. Image 2: type 2 only predicted.
COUNTS = np.array(
    [
        [[2, 1, 1, 1.5], [1, 0, 1, 0.75], [1, 1, 0, 0.75]],
        [[0, 2, 0, 0.0], [0, 2, 0, 0.0], [0, 0, 0, 0.0]],
        [[1, 1, 0, 0.8], [1, 0, 0, 0.8], [0, 1, 0, 0.0]],
    ]
)


def make_image(seed, n_types=3):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 7, (5, 6)), np.ones((3, 3), int))
    predicted = np.where(rng.random(truth.shape) < 0.7, np.roll(truth, seed % 2, axis=0), 0)
    valid = np.kron(rng.random((5, 6)) < 0.8, np.ones((3, 3), bool))
    types = [rng.choice([*range(1, n_types + 1), IGNORE], size=8) for _ in "tp"]
    return truth, predicted * 3, valid, types[0], types[1]


def counts_by_loops(truth, predicted, valid, truth_types, predicted_types, n_types):
    """One pair of masks after the other; types are looked up by id here."""
    counts = np.zeros((1 + n_types, 4))
    true_ids = [t for t in np.unique(truth[valid]) if t]
    predicted_ids = [p for p in np.unique(predicted) if p]
    partner = {}
    for t in true_ids:
        for p in predicted_ids:
            a, b = (truth == t) & valid, (predicted == p) & valid
            iou = (a & b).sum() / max((a | b).sum(), 1)
            if iou > 0.5:
                partner[p] = t, iou
    for kind in range(1 + n_types):
        true = [t for t in true_ids if kind in (0, truth_types[t])]
        hits = 0
        for p in predicted_ids:
            if kind not in (0, predicted_types[p // 3]):
                continue
            match, iou = partner.get(p, (None, 0))
            if match in true:
                hits += 1
                counts[kind, [0, 3]] += 1, iou
            elif match is not None and truth_types[match] == IGNORE:
                continue
            elif (predicted[~valid] == p).sum() <= (predicted[valid] == p).sum():
                counts[kind, 1] += 1
        counts[kind, 2] = len(true) - hits
    return counts


def tabled(image):
    truth, predicted, valid, truth_types, predicted_types = image
    table = contingency(truth, predicted, valid)
    return table, truth_types[table.truth_ids], predicted_types[table.predicted_ids // 3]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**16))
def test_counts_equal_those_of_pairwise_masks(seed):
    image = make_image(seed)
    table, truth_types, predicted_types = tabled(image)
    found = panoptic_counts(table, 3, truth_types, predicted_types)
    np.testing.assert_allclose(found, counts_by_loops(*image, 3), atol=1e-12)


def test_counts_by_hand():
    # 1, type 1: 3 of 4 px found as 1 (.75). 2, type 2: found whole, but as type 1. 3, untyped: found.
    # 4, type 2: missed. Prediction 50, type 2, lies on background.
    truth = np.array([[1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 0, 0]])
    predicted = np.array([[10, 10, 10, 0, 20, 20, 30, 30, 0, 0, 50, 50]])
    table = contingency(truth, predicted)
    types = np.array([1, 2, IGNORE, 2]), np.array([1, 1, 1, 2])
    assert panoptic_counts(table, 2, *types).tolist() == [
        [3, 1, 1, 2.75],
        [1, 1, 0, 0.75],  # 20 is a false alarm of type 1, 30 is not: what it found has no type
        [0, 1, 2, 0],  # 2 and 4 are missed
    ]
    assert panoptic_counts(table).tolist() == [[3, 1, 1, 2.75]]


def test_false_alarms_on_unknown_ground_are_nobodys():
    predicted = np.array([[1, 1, 1, 2, 2, 0]])
    valid = np.array([[1, 0, 0, 1, 0, 1]], dtype=bool)
    table = contingency(np.zeros_like(predicted), predicted, valid)
    assert panoptic_counts(table).tolist() == [[0, 1, 0, 0]]
    covered = contingency(np.array([[9, 0, 0, 0, 0, 0]]), predicted, valid)
    assert panoptic_counts(covered).tolist() == [[1, 1, 0, 1]]  # but a match stays one


@pytest.mark.parametrize(
    ("truth", "predicted", "counts"),
    [
        ([[0, 0]], [[0, 0]], [0, 0, 0, 0]),
        ([[0, 0]], [[4, 5]], [0, 2, 0, 0]),
        ([[4, 5]], [[0, 0]], [0, 0, 2, 0]),
        ([[70_000, 70_000]], [[9, 9]], [1, 0, 0, 1]),
    ],
)
def test_empty_and_full_images(truth, predicted, counts):
    assert panoptic_counts(contingency(np.array(truth), np.array(predicted)))[0].tolist() == counts


def test_parts_multiply_to_the_whole():
    np.testing.assert_allclose(pq(COUNTS[0, 0]), 1.5 / 3)
    np.testing.assert_allclose(dq(COUNTS[0]) * sq(COUNTS[0]), pq(COUNTS[0]))
    assert pq([0, 2, 0, 0]) == 0
    assert np.isnan([pq([0, 0, 0, 0]), sq([0, 2, 0, 0]), published_pq([0, 2, 0, 0])]).all()


def test_averages_by_hand():
    scores = panoptic_scores(COUNTS, ["x", "y"], groups=["colon", "colon", "skin"])
    bpq = 1.5 / 3, NAN, 0.8 / 1.5  # image 1 has no truth: skipped as published
    mpq = (0.75 / 1.5 + 0.75 / 1.5) / 2, NAN, 0.8  # type 2 of image 2 likewise
    pooled = {"x": 1.55 / (2 + 2 / 2 + 1 / 2), "y": 0.75 / (1 + 2 / 2)}
    assert scores == pytest.approx(
        {
            "bpq_image": (bpq[0] + bpq[2]) / 2,
            "mpq_image": (mpq[0] + mpq[2]) / 2,
            "bpq_tissue": (bpq[0] + bpq[2]) / 2,
            "mpq_tissue": (mpq[0] + mpq[2]) / 2,
            "bpq_plus": 2.3 / (3 + 4 / 2 + 1 / 2),
            "dq_plus": 3 / (3 + 4 / 2 + 1 / 2),
            "sq_plus": 2.3 / 3,
            "mpq_plus": (pooled["x"] + pooled["y"]) / 2,
            "pq_plus/x": pooled["x"],
            "pq_plus/y": pooled["y"],
            "dq_plus/x": 2 / 3.5,
            "dq_plus/y": 1 / 2,
            "sq_plus/x": 1.55 / 2,
            "sq_plus/y": 0.75,
        }
    )
    assert all(type(score) is float for score in scores.values())


def test_groups_of_several_images_count_once():
    counts = np.stack([COUNTS[0], COUNTS[2], COUNTS[2]])[:, :1]  # types ignored
    scores = panoptic_scores(counts, groups=["a", "b", "b"])
    assert scores["bpq_tissue"] == pytest.approx((0.5 + 0.8 / 1.5) / 2)
    assert scores["bpq_image"] == pytest.approx((0.5 + 2 * 0.8 / 1.5) / 3)


def test_types_in_neither_are_left_out_and_nothing_has_no_score():
    none = np.zeros((2, 3, 4))
    scores = panoptic_scores(none, ["x", "y"], ["a", "b"])
    assert np.isnan(list(scores.values())).all()
    none[0, :2] = 1, 0, 0, 0.9
    scores = panoptic_scores(none, ["x", "y"])
    assert scores["mpq_plus"] == scores["pq_plus/x"] == pytest.approx(0.9)
    assert np.isnan(scores["pq_plus/y"])


def test_processes_merge_by_summing_and_images_stay_apart():
    images = [make_image(seed) for seed in range(4)]
    whole, one, two = (PanopticQuality(4, 3) for _ in range(3))
    for index, image in enumerate(images):
        whole.update(index, *tabled(image))
        (one if index % 2 else two).update(index, *tabled(image))
    one.merge_state(two)
    torch.testing.assert_close(one.compute(), whole.compute())
    torch.testing.assert_close(
        whole.compute()[2], torch.from_numpy(counts_by_loops(*images[2], 3)), atol=1e-12, rtol=0
    )
    assert whole.compute().dtype == torch.float64
    whole.reset()
    assert not whole.counts.any()


@pytest.mark.parametrize("types", [[1], [0, 1], [1, 4], [-1, 1]])
def test_types_that_do_not_fit_are_refused(types):
    table = contingency(np.array([[1, 2]]), np.array([[1, 2]]))
    with pytest.raises(TissueDataError, match=r"truth_types has \d values"):
        PanopticQuality(1, 3).update(0, table, np.array(types), np.array([1, 1]))
