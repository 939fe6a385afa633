"""Connected pieces of masks, and ids of instances in order, for whole images at once."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(mask: NDArray[np.bool_], connectivity: int = 4) -> NDArray[np.int32]:
    """Number the connected pieces of a mask.

    Args:
        mask: (H, W).
        connectivity: 4 or 8 neighbours.

    Returns:
        (H, W) int32, 0 outside the mask.
    """
    if not mask.size:
        return np.zeros(mask.shape, np.int32)
    found = cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[1]
    return np.asarray(found, np.int32)


def in_one_piece(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number the pieces of instances whose pixels are connected by edges, all instances at once.

    Args:
        labels: (H, W), 0 = background.

    Returns:
        (H, W) int32, 0 in the background.
    """
    if not labels.any():
        return np.zeros(labels.shape, np.int32)
    starts = np.ones(labels.shape, dtype=bool)  # of runs: stretches of one label in a row
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    run = np.cumsum(starts, dtype=np.int32)
    touching = (labels[1:] == labels[:-1]) & (starts[1:] | starts[:-1])  # once for two runs
    above = np.flatnonzero(touching)
    first = np.flatnonzero(starts)
    links = run[above] - 1, run[above + labels.shape[1]] - 1
    graph = coo_array((np.ones(len(above), np.int8), links), shape=(len(first), len(first)))
    piece = connected_components(graph, directed=False)[1].astype(np.int32) + 1
    piece[labels.reshape(-1)[first] == 0] = 0
    return np.repeat(piece, np.diff(first, append=labels.size)).reshape(labels.shape)


def without_small(labels: NDArray[np.int32], least_px: int) -> NDArray[np.int32]:
    """Make instances of fewer than `least_px` pixels background; the other ids stay."""
    kept = np.bincount(labels.reshape(-1)) >= least_px
    if kept.all():
        return labels
    ids = np.where(kept, np.arange(len(kept)), 0).astype(np.int32)
    return ids[labels]


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With its holes, which are the pieces of its background that do not touch the image's edge."""
    outside = components(np.pad(~mask, 1, constant_values=True))
    return (outside != outside[0, 0])[1:-1, 1:-1]


def in_reading_order(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number instances 1 … n without gaps, in the order in which rows from the top meet them.

    Args:
        labels: (H, W), 0 = background.

    Returns:
        (H, W) int32.
    """
    flat = labels.reshape(-1)
    met = np.flatnonzero(np.diff(flat, prepend=0))  # where runs of one label begin
    met = met[flat[met] > 0][::-1]
    first = np.full(int(flat.max(initial=0)) + 1, -1)
    first[flat[met]] = met  # from the end: of several runs the earliest stays
    ids = np.flatnonzero(first >= 0)
    number = np.zeros(len(first), np.int32)
    number[ids[np.argsort(first[ids])]] = np.arange(1, len(ids) + 1)
    return number[labels]
