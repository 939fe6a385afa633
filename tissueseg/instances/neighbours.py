"""Where instances touch: the pairs of pixels on either side of borders, and joining what they separate.

To cut too much and then to join is the safe order: a whole border tells more than one of its pixels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Contacts(NamedTuple):
    """Pairs of pixels that share an edge and belong to different instances; both are foreground."""

    first: NDArray[np.intp]  # (n,) flat place of the upper or left one
    second: NDArray[np.intp]  # (n,) of the lower or right one
    downward: NDArray[np.bool_]  # (n,) whether they lie below each other
    border: NDArray[np.intp]  # (n,) number of the border that the pair lies on
    sides: NDArray[np.intp]  # (n_borders, 2) ids of the instances that it separates


def contacts(labels: NDArray[np.int32]) -> Contacts:
    """All borders of a label image, (H, W)."""
    flat, width = labels.reshape(-1), labels.shape[1]
    right = (labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] > 0) & (labels[:, :-1] > 0)
    below = (labels[1:] != labels[:-1]) & (labels[1:] > 0) & (labels[:-1] > 0)
    row, column = np.nonzero(right)
    beside, above = row * width + column, np.flatnonzero(below)
    first = np.concatenate([beside, above])
    second = np.concatenate([beside + 1, above + width])
    downward = np.arange(len(first)) >= len(beside)
    sides, border = _numbered(np.stack([flat[first], flat[second]], axis=1))
    return Contacts(first, second, downward, border, sides)


def merged_borders(
    sides: NDArray[np.integer], *totals: NDArray[np.floating | np.integer]
) -> tuple[NDArray[np.intp], list[np.ndarray]]:
    """What becomes of borders once instances are joined: those within one are gone, others add up.

    Args:
        sides: (n, 2) new ids of what each border separates.
        totals: (n,) each, sums over a border's pairs.

    Returns:
        (m, 2) what they separate, the lesser id first, and the (m,) sums.
    """
    between = sides[:, 0] != sides[:, 1]
    pairs, border = _numbered(sides[between])
    return pairs, [np.bincount(border, one[between], len(pairs)) for one in totals]


def joined(n_ids: int, pairs: NDArray[np.integer]) -> NDArray[np.int32]:
    """New ids of instances of which pairs are one, also by way of others.

    Args:
        n_ids: one more than the largest id.
        pairs: (n, 2) ids > 0.

    Returns:
        (n_ids,) the new id of every old one; 0 stays 0.
    """
    graph = coo_array((np.ones(len(pairs), np.int8), tuple(pairs.T)), shape=(n_ids, n_ids))
    return connected_components(graph, directed=False)[1].astype(np.int32)


def _numbered(sides: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(m, 2) the different pairs of ids, in whichever order they stand, and (n,) which each one is."""
    low, high = sides.min(axis=1).astype(np.int64), sides.max(axis=1)
    base = int(high.max(initial=0)) + 1
    keys, border = np.unique(low * base + high, return_inverse=True)
    return np.stack(np.divmod(keys, base), axis=1), border
