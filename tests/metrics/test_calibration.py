import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.calibration import (
    Calibration,
    brier,
    calibration_counts,
    calibration_scores,
    ece,
    reliability,
)


def make_cells(seed, n=40, n_types=4):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(n_types, 0.5), n)
    return probs, rng.choice([*range(1, n_types + 1), IGNORE], n)


def scores_by_loops(probs, types, bins):
    cells = [(p, t) for p, t in zip(probs.tolist(), types.tolist(), strict=True) if t != IGNORE]
    error = squared = 0.0
    for b in range(bins):
        inside = [(p, t) for p, t in cells if b / bins < max(p) <= (b + 1) / bins]
        hits = sum(p.index(max(p)) + 1 == t for p, t in inside)
        error += abs(hits - sum(max(p) for p, _ in inside))
    for p, t in cells:
        squared += sum((q - (c + 1 == t)) ** 2 for c, q in enumerate(p))
    return error / len(cells), squared / len(cells)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**16), bins=st.sampled_from([1, 7, 15]))
def test_scores_equal_those_of_loops(seed, bins):
    cells = make_cells(seed)
    counts = calibration_counts(*cells, bins)
    assert (ece(counts), brier(counts)) == pytest.approx(scores_by_loops(*cells, bins))


def test_by_hand():
    probs = [[0.9, 0.1], [0.3, 0.7], [0.7, 0.3], [1.0, 0.0]]
    counts = calibration_counts(probs, [1, 2, 2, IGNORE], bins=4)
    # Confidence .7 twice, once right; .9 once, right. Errors: .1² + .1², .3² + .3², .7² + .7².
    np.testing.assert_allclose(
        counts, [[0, 0, 0, 0], [0, 0, 0, 0], [2, 1.4, 1, 1.16], [1, 0.9, 1, 0.02]]
    )
    scores = calibration_scores([counts, np.zeros((4, 4))])
    expected = {"ece": (0.4 + 0.1) / 3, "brier": 1.18 / 3}
    assert scores == pytest.approx(
        {f"{name}_{how}": v for name, v in expected.items() for how in ("pooled", "image")}
    )


def test_a_reliability_diagram_by_hand():
    rows = reliability([[0, 0, 0, 0], [4, 3.0, 1, 0]])
    assert rows.low.tolist() == [0, 0.5]
    assert rows.high.tolist() == [0.5, 1]
    assert rows.cells.tolist() == [0, 4]
    np.testing.assert_array_equal(rows.confidence, [np.nan, 0.75])
    np.testing.assert_array_equal(rows.accuracy, [np.nan, 0.25])


def test_confidence_of_zero_and_one_have_a_bin():
    counts = calibration_counts([[0.0], [1.0]], [1, 1])
    assert counts[[0, -1], 0].tolist() == [1, 1]
    assert counts[:, 0].sum() == 2


def test_a_confidence_between_two_bins_is_in_the_lower_one():
    probs = [[0.2, 0.1], [0.4, 0.4], [0.6, 0.1], [0.61, 0.1]]
    counts = calibration_counts(probs, [1, 1, 1, 1], bins=5)
    assert counts[:, 0].tolist() == [1, 1, 1, 1, 0]
    rows = reliability(counts)
    assert (rows.low[0], rows.high[0], rows.confidence[0]) == (0, 0.2, 0.2)


def test_parts_of_an_image_add_up_and_processes_merge():
    cells, (one, two) = make_cells(1), (Calibration(2), Calibration(2))
    one.update(1, cells[0][:17], cells[1][:17])
    two.update(1, cells[0][17:], cells[1][17:])
    one.merge_state(two)
    expected = torch.from_numpy(np.stack([np.zeros((15, 4)), calibration_counts(*cells)]))
    torch.testing.assert_close(one.compute(), expected)


@pytest.mark.parametrize("probs", [np.zeros((0, 3)), np.full((2, 3), np.nan)])
def test_without_typed_cells_there_is_no_score(probs):
    counts = calibration_counts(probs, np.full(len(probs), IGNORE))
    assert np.isnan(list(calibration_scores(counts[None]).values())).all()


@pytest.mark.parametrize(
    ("probs", "types", "says"),
    [
        ([[0.5, 0.5]], [3], r"probs of shape \(1, 2\) for 1 types \[3\]"),
        ([[0.5, 0.5]], [0], "leave the background's column out"),
        ([[0.5, 0.5]], [1, 2], r"probs of shape \(1, 2\)"),
        ([[2.0, -2.0]], [1], "not logits"),
        ([[np.nan, 0.5]], [1], "probs from nan"),
    ],
)
def test_what_are_no_probabilities_is_refused(probs, types, says):
    with pytest.raises(TissueDataError, match=says):
        calibration_counts(probs, types)
