"""Means and medians over cells, against numpy on each cell."""

import warnings

import numpy as np
import pytest

from tissueseg.instances.intensity import intensities
from tissueseg.instances.pixels import cut, number, spread

RNG = np.random.default_rng(0)
LABELS = np.where(RNG.random((40, 50)) < 0.8, RNG.integers(1, 60, (40, 50)) ** 3, 0)
LABELS[:20, :30] = 8  # one of another size


def statistics(labels, plane):
    numbered = number(labels, np.unique(labels[labels > 0]))
    cells = spread(cut(numbered.image, numbered.row), len(numbered.ids))
    # Beside another channel, which must not matter.
    return [both[0] for both in intensities(np.stack([plane, np.zeros_like(plane)]), cells)]


def one_by_one(labels, plane, mean, median):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of cells without a value
        return np.array(
            [(mean(plane[labels == i]), median(plane[labels == i])) for i in np.unique(labels)[1:]]
        ).T.astype(np.float32)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64]
)
def test_equal_numpy_for_every_type(dtype):
    low, high = (-5, 5) if dtype in (np.float32, np.float64) else (0, 1)
    if not high - low > 1:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    plane = (RNG.random(LABELS.shape) * (high - low) + low).astype(dtype)
    plane[:3] = high
    mean, median = statistics(LABELS, plane)
    assert mean.dtype == median.dtype == np.float32
    wanted = one_by_one(LABELS, plane.astype(np.float64), np.mean, np.median)
    np.testing.assert_allclose(mean, wanted[0], rtol=1e-6)
    np.testing.assert_array_equal(median, wanted[1])


def test_values_that_are_not_finite_are_missing():
    plane = RNG.normal(size=LABELS.shape).astype(np.float32)
    plane[RNG.random(LABELS.shape) < 0.6] = np.nan
    plane[0, 0], plane[1, 1] = np.inf, -np.inf
    gone = np.unique(LABELS)[5]
    plane[gone == LABELS] = np.nan
    found = statistics(LABELS, plane)
    plane[~np.isfinite(plane)] = np.nan
    wanted = one_by_one(LABELS, plane.astype(np.float64), np.nanmean, np.nanmedian)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_array_equal(found[1], wanted[1])
    assert np.isnan(found[1][4])


def test_largest_values_are_not_taken_for_padding():
    labels = np.array([[1, 1, 1, 2, 2]])
    plane = np.array([[65535, 65535, 0, 65535, 65534]], np.uint16)
    assert statistics(labels, plane)[1].tolist() == [65535, 65534.5]
    assert statistics(labels, np.array([[True, True, False, True, False]]))[1].tolist() == [1, 0.5]


def test_cells_without_pixels_have_no_values():
    image = np.array([[1, 3]], np.int32)
    cells = spread(cut(image, np.arange(4) - 1), 3)
    mean, median = intensities(np.array([[[4, 6]]]), cells)
    np.testing.assert_array_equal([mean[0], median[0]], [[4, np.nan, 6]] * 2)


def test_no_cells_at_all():
    nothing = np.zeros((2, 2), np.int32)
    cells = spread(cut(nothing, np.arange(1) - 1), 0)
    mean, median = intensities(np.ones((3, 2, 2)), cells)
    assert mean.shape == median.shape == (3, 0)
