"""HoVer-Net's way from maps to nuclei, word for word with other libraries: what presets are held to."""

import cv2
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed


def literal_recipe(
    foreground: np.ndarray, hv: np.ndarray, sobel_px: int, min_marker_px: int
) -> np.ndarray:
    """HoVer-Net's post-processing as it is described, with scipy, OpenCV and scikit-image."""
    inside = (_large_enough(ndimage.label(foreground >= 0.5)[0], 10) > 0).astype(np.int32)
    h, v = _stretched(hv[0]), _stretched(hv[1])
    across = 1 - _stretched(cv2.Sobel(h, cv2.CV_64F, 1, 0, ksize=sobel_px))
    down = 1 - _stretched(cv2.Sobel(v, cv2.CV_64F, 0, 1, ksize=sobel_px))
    overall = np.maximum(across, down) - (1 - inside)
    overall[overall < 0] = 0
    energy = -cv2.GaussianBlur((1 - overall) * inside, (3, 3), 0)
    markers = inside - (overall >= 0.4).astype(np.int32)
    markers[markers < 0] = 0
    filled = ndimage.binary_fill_holes(markers).astype(np.uint8)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(filled, cv2.MORPH_OPEN, ellipse)
    seeds = _large_enough(ndimage.label(opened)[0], min_marker_px)
    return watershed(energy, markers=seeds, mask=inside > 0)


def _stretched(one: np.ndarray) -> np.ndarray:
    return cv2.normalize(one, None, 0, 1, cv2.NORM_MINMAX, cv2.CV_32F)  # pyright: ignore


def _large_enough(labels: np.ndarray, least_px: int) -> np.ndarray:
    return np.where((np.bincount(labels.reshape(-1)) >= least_px)[labels], labels, 0)
