"""Scores of many confusion matrices at once are those of each."""

import subprocess
import sys

import numpy as np
import pytest

from tissueseg.metrics import semantic
from tissueseg.metrics import semantic_scores as scores

COUNTS = np.random.default_rng(0).integers(0, 50, (3, 2, 4, 4))
COUNTS[0, 1, 3] = COUNTS[0, 1, :, 3] = 0  # a class that is nowhere


@pytest.mark.parametrize("score", [scores.dice_per_class, scores.iou_per_class])
def test_of_many_matrices(score):
    found = score(COUNTS)
    assert found.shape == (3, 2, 4)
    assert np.isnan(found).sum() == 1
    for place in np.ndindex(3, 2):
        np.testing.assert_array_equal(found[place], score(COUNTS[place]))


@pytest.mark.parametrize("foreground", [False, True])
def test_means_of_many(foreground):
    values = scores.dice_per_class(COUNTS)
    found = scores.macros(values, foreground)
    for place in np.ndindex(3, 2):
        assert found[place] == scores.macro(values[place], foreground)


def test_marginals_add_up_over_tissues():
    parts = scores.Marginals(*(part.sum(0) for part in scores.marginals(COUNTS[:, 0])))
    np.testing.assert_array_equal(scores.dice_of(parts), scores.dice_per_class(COUNTS[:, 0].sum(0)))
    np.testing.assert_array_equal(scores.iou_of(parts), scores.iou_per_class(COUNTS[:, 0].sum(0)))


def test_rows_are_truth_and_columns_predictions():
    found = scores.marginals([[5, 2], [1, 0]])
    np.testing.assert_array_equal(np.stack(found), [[5, 0], [7, 1], [6, 2]])


def test_names_are_where_they_were():
    for name in ("SemanticScores", "dice_per_class", "iou_per_class", "macro", "semantic_scores"):
        assert getattr(semantic, name) is getattr(scores, name)


def test_no_torch_is_needed():
    code = "import sys, tissueseg.metrics.semantic_scores; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
