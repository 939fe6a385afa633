"""Embeddings of cells, against the token of every pixel."""

import numpy as np
import pytest

from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Box
from tissueseg.instances.pixels import cut, spread
from tissueseg.instances.pooling import Tokens, pooled

BOX = Box(13, 22, 20, 30)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 9, (20, 30))
PIXELS = spread(cut(IMAGE, np.arange(9) - 1), 8)
GRID = RNG.normal(size=(6, 9, 14)).astype(np.float32)  # of the whole tissue, 4 px per token


def test_every_pixel_counts_the_token_it_lies_in():
    part = Tokens(GRID[:, 3:, 5:], 4, (3, 5))
    wide = GRID.repeat(4, axis=1).repeat(4, axis=2)[:, *BOX.slices]
    wanted = [wide[:, cell == IMAGE].mean(axis=1) for cell in range(1, 9)]
    found = pooled(part, PIXELS, BOX)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_tokens_that_do_not_reach_the_cells_are_refused():
    with pytest.raises(TissueDataError, match="do not cover the cells of the window"):
        pooled(Tokens(GRID[:, 3:, 6:], 4, (3, 6)), PIXELS, BOX)
    with pytest.raises(TissueDataError, match="read all tokens"):
        pooled(Tokens(GRID[:, :8], 4, (0, 0)), PIXELS, BOX)
