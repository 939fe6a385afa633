"""Types of cells from the probabilities of their pixels, by hand and against a loop."""

import numpy as np
import pytest

from tissueseg.instances.cell_types import type_probs
from tissueseg.instances.pixels import cut, spread

CLASSES = np.array(
    [
        # cell 1, 1, 1; cell 2, 2
        [0.1, 0.2, 0.8, 0.7, 0.6],
        [0.5, 0.2, 0.1, 0.2, 0.4],
        [0.4, 0.6, 0.1, 0.1, 0.0],
    ]
)[:, None]
PIXELS = spread(cut(np.array([[1, 1, 1, 2, 2]]), np.arange(3) - 1), 2)


def test_the_mean_leaves_background_out():
    found = type_probs(CLASSES, PIXELS, [1, 2])
    np.testing.assert_allclose(found, [[0.8 / 1.9, 1.1 / 1.9], [0.6 / 0.7, 0.1 / 0.7]])


def test_the_majority_counts_pixels_of_types_alone_or_falls_back():
    found = type_probs(CLASSES, PIXELS, [1, 2], "majority")
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.6 / 0.7, 0.1 / 0.7]])


@pytest.mark.parametrize("typing", ["mean", "majority"])
def test_cells_that_are_surely_background_have_all_types_alike(typing):
    classes = np.zeros((3, 1, 5), np.float32)
    classes[0] = 1
    assert type_probs(classes, PIXELS, [1, 2], typing).tolist() == [[0.5, 0.5]] * 2


def test_of_classes_as_likely_a_pixel_votes_for_the_first():
    classes = np.array([[0.2, 0.4, 0, 0, 0.2], [0.4, 0.4, 0.2, 1, 0.4], [0.4, 0.2, 0.8, 0, 0.4]])
    found = type_probs(classes[:, None], PIXELS, [1, 2], "majority")
    assert found.tolist() == [[0.5, 0.5], [1, 0]]  # of the first cell one pixel is background


def test_the_majority_equals_a_loop():
    rng = np.random.default_rng(0)
    classes = rng.random((5, 20, 20), dtype=np.float32)
    image = rng.integers(0, 8, (20, 20))
    found = type_probs(classes, spread(cut(image, np.arange(8) - 1), 7), [1, 2, 3, 4], "majority")
    likely = classes.argmax(0)
    for cell in range(7):
        votes = np.bincount(likely[image == cell + 1], minlength=5)[1:]
        np.testing.assert_allclose(found[cell], votes / votes.sum())
