from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.metrics.contingency import contingency, joined
from tissueseg.metrics.jaccard import AggregatedJaccard, jaccard_counts, jaccard_scores


def make_pair(seed):
    rng = np.random.default_rng(seed)
    block = int(rng.integers(1, 4))
    pair = (np.kron(rng.integers(0, 5, (4, 5)), np.ones((block, block), int)) for _ in "tp")
    truth, predicted = pair
    return truth, np.roll(predicted, 1, axis=1) * 70_000


def masks_of(labels):
    return [labels == i for i in np.unique(labels[labels > 0])]


def aji_by_loops(truth, predicted):
    """Kumar's algorithm, mask by mask."""
    trues, founds = masks_of(truth), masks_of(predicted)
    used, part, whole = set(), 0, 0
    for t in trues:
        ious = [(t & p).sum() / (t | p).sum() for p in founds]
        if not ious or max(ious) == 0:
            whole += t.sum()
            continue
        best = int(np.argmax(ious))
        used.add(best)
        part, whole = part + (t & founds[best]).sum(), whole + (t | founds[best]).sum()
    whole += sum(p.sum() for i, p in enumerate(founds) if i not in used)
    return int(part), int(whole)


def best_sum_and_ajis(truth, predicted):
    """Try every one-to-one matching: every ratio that belongs to the largest sum of IoU."""
    trues, founds = masks_of(truth), masks_of(predicted)
    nothing = np.zeros(truth.shape, dtype=bool)
    sides = sorted([trues, founds], key=len)
    sides[0] += [nothing] * (len(sides[1]) - len(sides[0]))
    tried = []
    for order in permutations(range(len(sides[1]))):
        pairs = [(sides[0][i], sides[1][j]) for i, j in enumerate(order)]
        parts, wholes = zip(*[((a & b).sum(), (a | b).sum()) for a, b in pairs], strict=True)
        tried.append(
            (sum(p / w for p, w in zip(parts, wholes, strict=True)), sum(parts), sum(wholes))
        )
    best = max(total for total, _, _ in tried)
    return {(int(p), int(w)) for total, p, w in tried if total > best - 1e-12}


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**16))
def test_aji_equals_that_of_pairwise_masks(seed):
    truth, predicted = make_pair(seed)
    assert tuple(jaccard_counts(contingency(truth, predicted))[:2]) == aji_by_loops(
        truth, predicted
    )


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**16))
def test_aji_plus_is_that_of_a_best_one_to_one_matching(seed):
    truth, predicted = make_pair(seed)
    found = tuple(jaccard_counts(contingency(truth, predicted))[2:].tolist())
    assert found in best_sum_and_ajis(truth, predicted)


def test_by_hand():
    # One prediction of 6 px over two nuclei of 3 px, and a false alarm of 2 px.
    truth = np.array([[1, 1, 1, 2, 2, 2, 0, 0, 0]])
    predicted = np.array([[5, 5, 5, 5, 5, 5, 0, 9, 9]])
    # AJI: both take it: (3 + 3) / (6 + 6 + 2). AJI+: one takes it: 3 / (6 + 3 + 2).
    counts = jaccard_counts(contingency(truth, predicted))
    assert counts.tolist() == [6, 14, 3, 11]
    scores = jaccard_scores([counts, [0, 0, 0, 0], [1, 1, 1, 1]])
    assert scores == pytest.approx(
        {
            "aji_image": (6 / 14 + 1) / 2,
            "aji_pooled": 7 / 15,
            "aji_plus_image": (3 / 11 + 1) / 2,
            "aji_plus_pooled": 4 / 12,
        }
    )


def test_false_alarms_alone_score_nothing_and_empty_images_have_no_score():
    nothing, something = np.zeros((2, 2), int), np.ones((2, 2), int)
    for truth, predicted in ((nothing, something), (something, nothing)):
        assert jaccard_counts(contingency(truth, predicted)).tolist() == [0, 4, 0, 4]
    counts = jaccard_counts(contingency(nothing, nothing))
    assert np.isnan(list(jaccard_scores([counts]).values())).all()
    assert jaccard_counts(contingency(something, something)).tolist() == [4, 4, 4, 4]


def test_false_alarms_mostly_on_unknown_ground_are_left_out():
    predicted, valid = np.array([[1, 1, 1]]), np.array([[True, False, False]])
    table = contingency(np.zeros_like(predicted), predicted, valid)
    assert jaccard_counts(table).tolist() == [0, 0, 0, 0]


def test_windows_joined_and_processes_merged_are_the_whole():
    one, two, whole = (AggregatedJaccard(2) for _ in range(3))
    for index, seed in enumerate((4, 5)):
        truth, predicted = make_pair(seed)
        parts = [contingency(truth[:, c], predicted[:, c]) for c in (np.s_[:3], np.s_[3:])]
        (one, two)[index].update(index, joined(parts))
        whole.update(index, contingency(truth, predicted))
    one.merge_state(two)
    assert one.compute().tolist() == whole.compute().tolist()
