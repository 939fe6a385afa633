import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.semantic import (
    PooledConfusion,
    dice_per_class,
    iou_per_class,
    macro,
    prior_dice,
    semantic_scores,
)

N_TISSUES, N_CLASSES = 3, 4
CONFUSION = np.array(  # class 3 is nowhere
    [[6, 2, 0, 0], [1, 3, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]]
)


def make_tiles(seed, tiles=6):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(0, N_CLASSES, (tiles, 5, 7), generator=generator)
    classes = torch.randint(0, N_CLASSES, (tiles, 5, 7), generator=generator)
    classes[torch.rand(classes.shape, generator=generator) < 0.2] = IGNORE
    tissue = torch.randint(0, N_TISSUES, (tiles,), generator=generator)
    return predicted, classes, tissue


def pooled(*batches):
    metric = PooledConfusion(N_TISSUES, N_CLASSES)
    for batch in batches:
        metric.update(*batch)
    return metric.compute()


def test_counts_by_hand():
    predicted = torch.tensor([[[0, 1], [1, 1]], [[0, 3], [2, 0]]])
    classes = torch.tensor([[[0, 1], [0, IGNORE]], [[0, 3], [3, IGNORE]]])
    confusion = pooled((predicted, classes, torch.tensor([2, 0])))
    expected = torch.zeros(N_TISSUES, N_CLASSES, N_CLASSES, dtype=torch.int64)
    expected[2, 0, 0] = expected[2, 1, 1] = expected[2, 0, 1] = 1
    expected[0, 0, 0] = expected[0, 3, 3] = expected[0, 3, 2] = 1
    assert torch.equal(confusion, expected)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), order=st.permutations(range(6)), cut=st.integers(0, 6))
def test_neither_order_nor_batching_matters(seed, order, cut):
    tiles = make_tiles(seed)
    shuffled = tuple(x[order] for x in tiles)
    parts = [tuple(x[part] for x in shuffled) for part in (slice(cut), slice(cut, None))]
    assert torch.equal(pooled(tiles), pooled(*parts))


def test_forward_counts_each_batch_once_and_reset_empties():
    metric, tiles = PooledConfusion(N_TISSUES, N_CLASSES), make_tiles(0)
    torch.testing.assert_close(metric(*tiles), pooled(tiles))
    metric(*tiles)
    assert torch.equal(metric.compute(), 2 * pooled(tiles))
    metric.reset()
    assert not metric.confusion.any()


def test_processes_merge_by_summing():
    one, two = PooledConfusion(N_TISSUES, N_CLASSES), PooledConfusion(N_TISSUES, N_CLASSES)
    one.update(*make_tiles(1))
    two.update(*make_tiles(2))
    one.merge_state(two)
    assert torch.equal(one.compute(), pooled(make_tiles(1), make_tiles(2)))


@pytest.mark.parametrize(("which", "says"), [(0, "predicted"), (1, "true class"), (2, "tissue")])
def test_ids_out_of_range_are_refused(which, says):
    tiles = make_tiles(0)
    tiles[which].flatten()[:] = N_CLASSES
    with pytest.raises(TissueDataError, match=f"{says}.* ids run from .* to 4"):
        pooled(tiles)


def test_dice_and_iou_by_hand():
    np.testing.assert_allclose(dice_per_class(CONFUSION), [12 / 15, 6 / 13, 0, np.nan])
    np.testing.assert_allclose(iou_per_class(CONFUSION), [6 / 9, 3 / 10, 0, np.nan])


def test_macro_leaves_out_what_is_undefined():
    assert macro([0.5, np.nan, 1.0]) == 0.75
    assert macro([0.5, np.nan, 1.0], foreground=True) == 1.0
    assert np.isnan(macro([0.5, np.nan], foreground=True))


def test_scores_of_a_confusion():
    scores = semantic_scores(CONFUSION)
    assert scores.macro_dice == pytest.approx((12 / 15 + 6 / 13) / 3)
    assert scores.macro_dice_foreground == pytest.approx(6 / 13 / 2)
    assert scores.macro_iou == pytest.approx((6 / 9 + 3 / 10) / 3)
    assert scores.macro_iou_foreground == pytest.approx(0.15)
    assert scores.truth_share == (0.5, 0.25, 0.25, 0.0)
    assert semantic_scores(torch.as_tensor(CONFUSION)).dice[:3] == scores.dice[:3]


def test_nothing_counted_has_no_score():
    scores = semantic_scores(np.zeros((3, 3)))
    assert np.isnan([*scores.dice, *scores.truth_share, scores.macro_dice]).all()


def test_pooling_is_not_the_mean_of_tissues():
    whole, tissues = CONFUSION, [CONFUSION - np.diag([6, 0, 0, 0]), np.diag([6, 0, 0, 0])]
    mean = np.nanmean([dice_per_class(t)[0] for t in tissues])
    assert dice_per_class(whole)[0] == pytest.approx(0.8)
    assert mean != pytest.approx(0.8)


def test_prior_dice_is_what_guessing_scores():
    train, truth = np.array([700, 200, 100, 0]), np.array([60_000, 30_000, 10_000, 0])
    expected = prior_dice(train, truth)
    np.testing.assert_allclose(expected[:2], [2 * 0.7 * 0.6 / 1.3, 2 * 0.2 * 0.3 / 0.5])
    assert np.isnan(expected[3])
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), truth)
    guessed = generator.choice(4, size=classes.size, p=train / train.sum())
    confusion = np.bincount(classes * 4 + guessed, minlength=16).reshape(4, 4)
    np.testing.assert_allclose(dice_per_class(confusion), expected, atol=0.01)
