"""Which type a cell has, from the class probabilities of its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tissueseg.instances.pixels import Pixels


def type_probs(
    classes: np.ndarray, pixels: Pixels, types: Sequence[int], typing: str = "mean"
) -> np.ndarray:
    """Probabilities of every type, background left out.

    `mean`: the mean of the pixels' probabilities, over the types alone. `majority`: the share of the
    pixels whose most likely class is that type, among those where it is any type. HoVer-Net and
    CellViT decide so, but divide by all pixels of the cell; here shares add up to 1. A cell of which
    every pixel is most likely background gets the mean.

    Args:
        classes: (C, H, W) probabilities, background first.
        pixels: of n cells, each with one at least.
        types: class ids of the K types.
        typing: which of the two.

    Returns:
        (n, K) float64, rows add up to 1. A cell that is certainly background has all types alike.
    """
    mean = _shares([pixels.sums(classes[id].reshape(-1).take(pixels.index)) for id in types])
    if typing == "mean":
        return mean
    likely = _most_likely(classes, pixels.index)
    votes = [pixels.sums(likely == id) for id in types]
    voted = np.sum(votes, axis=0) > 0
    return np.where(voted[:, None], _shares(votes), mean)


def _shares(amounts: list[np.ndarray]) -> np.ndarray:
    """K amounts of n cells to (n, K) shares; all alike where there is nothing."""
    stacked = np.stack(amounts, axis=1)
    total = stacked.sum(axis=1, keepdims=True)
    alike = np.full(stacked.shape, 1 / len(amounts))
    return np.divide(stacked, total, out=alike, where=total > 0)


def _most_likely(classes: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(n_pixels,) class of the highest probability, the first of equal ones."""
    best = classes[0].reshape(-1).take(index)
    likely = np.zeros(len(index), np.int16)
    for id, plane in enumerate(classes[1:], start=1):
        probs = plane.reshape(-1).take(index)
        likely[probs > best] = id
        np.maximum(best, probs, out=best)
    return likely
