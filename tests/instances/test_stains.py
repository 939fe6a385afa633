"""Optical densities of stains, of colours mixed by hand."""

import numpy as np

from tissueseg.instances.pixels import cut, spread
from tissueseg.instances.stains import HED, stain_densities


def mixed(amounts):
    """(3, 1, n) uint8 colours of (n, 3) amounts of stain."""
    return np.rint(256 * 10 ** -(np.asarray(amounts) @ HED) - 1).astype(np.uint8).T[:, None]


def test_amounts_of_stain_come_back():
    amounts = [[0.4, 0.0, 0.0], [0.0, 0.3, 0.0], [0.2, 0.2, 0.1]]
    found = stain_densities(mixed(amounts), spread(cut(np.array([[1, 2, 3]]), np.arange(4) - 1), 3))
    np.testing.assert_allclose(found, amounts, atol=0.02)


def test_a_cell_has_the_mean_of_its_pixels():
    amounts = [[0.5, 0.0, 0.0], [0.1, 0.0, 0.0]]
    found = stain_densities(mixed(amounts), spread(cut(np.array([[1, 1]]), np.arange(2) - 1), 1))
    np.testing.assert_allclose(found, [[0.3, 0, 0]], atol=0.02)


def test_white_has_no_stain_and_black_is_finite():
    rgb = np.array([255, 0], np.uint8).repeat(1)[None, None].repeat(3, axis=0)
    white, black = stain_densities(rgb, spread(cut(np.array([[1, 2]]), np.arange(3) - 1), 2))
    assert white.tolist() == [0, 0, 0]
    assert np.isfinite(black).all()


def test_the_published_densities_have_length_one():
    np.testing.assert_allclose(np.linalg.norm(HED, axis=1), 1, atol=0.005)
