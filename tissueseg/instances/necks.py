"""Cutting the connected pieces of a mask where they are waisted."""

import cv2
import numpy as np
from numpy.typing import NDArray

from tissueseg.instances.components import components
from tissueseg.instances.neighbours import contacts, joined
from tissueseg.instances.watershed import LEVELS, flood, levels_of

_DEEPEST_PX = (
    LEVELS / 16
)  # a sixteenth of a pixel is told apart, and nuclei of 512 px across are met


def cut_at_necks(mask: NDArray[np.bool_], neck: float, blur_px: float = 0.0) -> NDArray[np.int32]:
    """Flood from every deepest point, then join what no neck lies between.

    The depth of a pixel is its distance from the background; beyond the image nothing is known.

    Args:
        mask: (H, W).
        neck: how wide a neck may at most be to be cut, as a share of the thinner part's width.
        blur_px: σ that smooths depths, against ragged edges.

    Returns:
        (H, W) int32, 0 outside the mask; ids in no order.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    depth = _depth(mask, blur_px)
    peaks = mask & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    parts = flood(levels_of(-depth, -_DEEPEST_PX, 0), components(peaks, 8), mask)
    return joined(int(parts.max()) + 1, _without_neck(parts, depth, neck))[parts]


def _depth(mask: NDArray[np.bool_], blur_px: float) -> NDArray[np.float32]:
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = np.minimum(depth, np.float32(_DEEPEST_PX))  # without background it has no end
    if blur_px:
        depth = cv2.GaussianBlur(depth, (0, 0), blur_px)
    return np.asarray(depth, np.float32)


def _without_neck(
    parts: NDArray[np.int32], depth: NDArray[np.float32], neck: float
) -> NDArray[np.intp]:
    """(n, 2): parts that touch, and meet about as deep as the shallower of them is anywhere."""
    found, deep = contacts(parts), depth.reshape(-1)
    pass_depth = np.zeros(len(found.sides), np.float32)
    np.maximum.at(pass_depth, found.border, np.minimum(deep[found.first], deep[found.second]))
    deepest = np.zeros(int(parts.max()) + 1, np.float32)
    np.maximum.at(deepest, parts.reshape(-1), deep)
    return found.sides[pass_depth >= neck * deepest[found.sides].min(axis=1)]
