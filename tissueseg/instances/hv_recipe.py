"""The published way from horizontal and vertical maps to instances, constants and all, for comparison.

HoVer-Net (Graham et al. 2019, `post_proc.py`) as CellViT (Hörst et al. 2024) has it. Maps are stretched
by the least and the largest value of the whole map, so that a result depends on what else is in view.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tissueseg.instances.components import components, filled, without_small
from tissueseg.instances.watershed import flood, levels_of


class Recipe(NamedTuple):
    """What differs between magnifications."""

    sobel_px: int  # side of the kernel
    min_marker_px: int


RECIPES = {"published_40x": Recipe(21, 10), "published_20x": Recipe(11, 3)}
"""0.25 and 0.5 µm/px."""

_MIN_FOREGROUND_PX = 10
_EDGE = 0.4  # from which on a pixel is no marker


def published(
    mask: NDArray[np.bool_], hv: NDArray[np.float32], recipe: Recipe
) -> NDArray[np.int32]:
    """Cut a foreground into nuclei.

    What holds no marker stays background, as published.

    Args:
        mask: (H, W) foreground.
        hv: (2, H, W) offsets, finite.
        recipe: of the magnification.

    Returns:
        (H, W) int32; ids in no order.
    """
    inside = without_small(components(mask), _MIN_FOREGROUND_PX) > 0
    edge = np.maximum(_edges(hv[0], recipe, (1, 0)), _edges(hv[1], recipe, (0, 1)))
    edge[~inside] = 0
    energy = -np.asarray(cv2.GaussianBlur((1 - edge) * inside, (3, 3), 0), np.float32)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    core = filled(inside & (edge < _EDGE)).astype(np.uint8)
    core = cv2.morphologyEx(core, cv2.MORPH_OPEN, ellipse) > 0
    markers = without_small(components(core), recipe.min_marker_px)
    return flood(levels_of(energy, -1, 0), markers, inside)


def _edges(one: NDArray[np.float32], recipe: Recipe, order: tuple[int, int]) -> NDArray[np.float32]:
    """How steeply a map falls along its axis, 1 where steepest."""
    slope = cv2.Sobel(_stretched(one), cv2.CV_32F, *order, ksize=recipe.sobel_px)
    return 1 - _stretched(np.asarray(slope, np.float32))


def _stretched(one: NDArray[np.float32]) -> NDArray[np.float32]:
    """To 0 … 1; a constant map to 0."""
    low, high = one.min(), one.max()
    return (one - low) / (high - low) if high > low else np.zeros_like(one)
