"""Edges of nuclei: the target of boundary supervision, from label or class images.

The study took its edges from the class map, where two touching nuclei of one class have none between
them. Edges of the instances do separate them; the study's stay available for comparison.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from tissueseg.contracts import IGNORE


def instance_boundary(labels: NDArray[np.integer], width_px: int = 1) -> NDArray[np.bool_]:
    """The rim of every instance, on its own pixels.

    A pixel is rim when a pixel with another label, background or instance, lies within `width_px` steps
    along rows and columns. So nuclei that touch have `width_px` on either side, and without the rims no
    two instances are neighbours, not even diagonally. Where a tile cuts a nucleus there is no rim:
    nothing is known beyond. Instances of up to 2·width_px across are rim throughout.

    Args:
        labels: (H, W) instances, 0 = background.
        width_px: thickness of the rim, ≥ 1. The default spares small nuclei.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: width_px below 1.
    """
    if width_px < 1:
        raise ValueError(f"width_px={width_px}, wanted at least 1.")
    edge = _change(labels, np.ones(labels.shape, dtype=bool)).astype(np.uint8)
    if width_px > 1:
        # Growing across a change is harmless: what is near a change has another label near.
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        edge = cv2.dilate(edge, cross, iterations=width_px - 1)
    return (labels > 0) & (edge > 0)


def class_boundary(classes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Every pixel with another class above, below, left or right: the study's target (`semantic`).

    Edges are two pixels thick, one on either side. IGNORE pixels are never edges and make none beside
    them: what class they have is not known.

    Args:
        classes: (H, W) class ids or IGNORE.

    Returns:
        (H, W) bool.
    """
    return _change(classes, classes != IGNORE)


def _change(ids: NDArray[np.integer], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Both pixels of every pair of 4-neighbours that differ and are known."""
    edge = np.zeros(ids.shape, dtype=bool)
    rows, columns = (np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:])
    for before, after in (rows, columns):
        change = (ids[before] != ids[after]) & known[before] & known[after]
        edge[before] |= change
        edge[after] |= change
    return edge
