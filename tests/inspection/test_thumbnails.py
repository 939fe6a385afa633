"""Thumbnails are area means, whatever windows they are read by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tissueseg.inspection.fields import NucleusGrid
from tissueseg.inspection.thumbnails import Thumbnail
from tissueseg.store.layout import windows


def random_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, (3, height, width), np.uint16)


def shrunk(
    image: np.ndarray, channels: Sequence[int], side: int, shard: tuple[int, int] = (2048, 2048)
) -> np.ndarray:
    shape = image.shape[1], image.shape[2]
    small = Thumbnail(shape, channels, side)
    for window in windows(shape, shard):
        y, x, height, width = window
        small.add(window, image[:, y : y + height, x : x + width])
    return small.image()


def test_whole_factors_give_block_means() -> None:
    image = random_image(400, 600)
    blocks = image[[2, 0]].reshape(2, 100, 4, 150, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(shrunk(image, [2, 0], 150), blocks, rtol=1e-6)


@pytest.mark.parametrize("side", [7, 100, 333])
def test_windows_do_not_show(side: int) -> None:
    image = random_image(333, 500)
    whole = shrunk(image, range(3), side)
    np.testing.assert_allclose(shrunk(image, range(3), side, (90, 70)), whole, rtol=1e-6)
    assert max(whole.shape[1:]) == side


def test_small_tissues_keep_their_pixels() -> None:
    image = random_image(20, 31)
    np.testing.assert_array_equal(shrunk(image, range(3), 256), image)


def test_long_strips_keep_a_row() -> None:
    assert shrunk(random_image(3, 900), [0], 100).shape == (1, 1, 100)


def test_fields_lie_where_cells_are_densest_and_apart() -> None:
    grid = NucleusGrid((2000, 3000))
    rng = np.random.default_rng(0)
    for count, (y, x) in ((300, (300, 300)), (200, (1500, 2500))):
        places = rng.integers(0, 200, (2, count))
        grid.add(places[0] + y, places[1] + x)
    first, second = grid.densest(4, 512)
    assert first.y <= 300 < 500 <= first.y + first.height
    assert second.x <= 2500 < 2700 <= second.x + second.width
    assert (second.height, second.width) == (512, 512)
    assert max(second.y + 512 - 2000, second.x + 512 - 3000) <= 0
    assert NucleusGrid((500, 500)).densest(4, 512) == []
