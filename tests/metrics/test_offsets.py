import numpy as np
import pytest
import torch

from tissueseg.errors import TissueDataError
from tissueseg.metrics.offsets import HvError, hv_counts, hv_scores


def make_maps(seed=0, shape=(6, 8)):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(2, 2, *shape)).astype(np.float32)
    return maps[0], maps[1], rng.integers(0, 3, shape), rng.random(shape) < 0.7


def test_counts_equal_those_of_loops():
    predicted, target, labels, valid = make_maps()
    target[:, ~valid] = np.nan  # what is not known is not touched
    counts = np.zeros(4)
    for y, x in np.argwhere(valid):
        error = sum((float(predicted[c, y, x]) - float(target[c, y, x])) ** 2 for c in (0, 1))
        counts += [error, 2, error, 2] if labels[y, x] else [0, 0, error, 2]
    np.testing.assert_allclose(hv_counts(predicted, target, labels, valid), counts)


def test_scores_by_hand():
    predicted, target = np.zeros((2, 1, 4)), np.zeros((2, 1, 4))
    target[:, 0, 0], predicted[0, 0, 3] = (1, -1), 2
    counts = hv_counts(predicted, target, np.array([[1, 1, 0, 0]]))
    assert counts.tolist() == [2, 4, 6, 8]  # 1 + 1 in the nucleus, 4 beyond
    scores = hv_scores([counts, [0, 0, 0, 4]])
    assert scores == {
        "hv_mse_pooled": 0.5,
        "hv_mse_image": 0.5,
        "hv_mse_unmasked_pooled": 0.5,
        "hv_mse_unmasked_image": 0.375,
    }


def test_windows_add_up_and_processes_merge():
    maps = make_maps()
    one, two = HvError(1), HvError(1)
    for metric, columns in ((one, np.s_[..., :3]), (two, np.s_[..., 3:])):
        metric.update(0, hv_counts(*(image[columns] for image in maps)))
    one.merge_state(two)
    torch.testing.assert_close(one.compute()[0], torch.from_numpy(hv_counts(*maps)))


def test_nothing_known_has_no_score():
    predicted, target, labels, valid = make_maps()
    counts = hv_counts(predicted, target, labels, np.zeros_like(valid))
    assert np.isnan(list(hv_scores(counts[None]).values())).all()


def test_maps_that_do_not_fit_are_refused():
    predicted, target, labels, _ = make_maps()
    with pytest.raises(TissueDataError, match="maps of shapes"):
        hv_counts(predicted[:, 1:], target, labels)
    predicted[0, 0, 0] = np.inf
    with pytest.raises(TissueDataError, match="not finite"):
        hv_counts(predicted, target, labels)
