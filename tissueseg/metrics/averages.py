"""Quotients and means of scores of which some are undefined: NaN, and left out of every mean."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]


def ratio(part: ArrayLike, whole: ArrayLike) -> Scores:
    """Element-wise quotient of arrays of one shape, NaN over 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_defined(values: ArrayLike, axis: int | None = None) -> Scores:
    """Mean of what is not NaN, along an axis or of all; NaN where nothing is defined."""
    values = np.asarray(values, np.float64)
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis), defined.sum(axis))


def mean_of_groups(values: ArrayLike, groups: Sequence[str]) -> Scores:
    """Mean over the images of a group, then over groups; each over what is defined.

    Args:
        values: (n_images,) a score of each.
        groups: (n_images,) name of the group each image belongs to, such as its organ.
    """
    values, groups_of = np.asarray(values, np.float64), np.asarray(groups)
    names = np.unique(groups_of)
    return mean_defined([mean_defined(values[groups_of == name]) for name in names])


def f1(hit: ArrayLike, false: ArrayLike, missed: ArrayLike) -> Scores:
    """2 TP / (2 TP + FP + FN) of counts of one shape; NaN where there is nothing on either side."""
    hit, false, missed = (np.asarray(n, np.float64) for n in (hit, false, missed))
    return ratio(2 * hit, 2 * hit + false + missed)
