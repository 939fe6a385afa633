"""Made-up nuclei at any scale, what a network might say of them, and how many are found again."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

DENSITIES = {"sparse": 14.0, "dense": 8.0, "packed": 7.0}
"""µm between centres; nuclei are 4 … 9 µm across, so that they touch when dense."""


class Recovery(NamedTuple):
    """What is found of a truth, matched at IoU > .5."""

    truth: int
    found: int
    share: float  # of the truth's instances that are matched
    pq: float


def made_nuclei(count: int, mpp: float, density: str = "dense", seed: int = 0) -> np.ndarray:
    """About `count` ellipses on a shaken grid, at a scale; "packed": cells that fill the tissue.

    A pixel goes to the ellipse it lies deepest in (a Voronoi partition in each nucleus's own metric),
    so that nuclei that overlap touch along a line. Every tenth of the packed ones is missing.

    Args:
        count: nuclei, roughly.
        mpp: µm per pixel.
        density: a key of DENSITIES.
        seed: of the generator.

    Returns:
        (H, W) int32, a square; every nucleus in one piece of at least 4 pixels.
    """
    rng = np.random.default_rng(seed)
    pitch, side = DENSITIES[density], round(count**0.5)
    grid = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2) + 0.5
    centres = (grid + rng.uniform(-0.28, 0.28, grid.shape)) * pitch / mpp
    size_px = round(side * pitch / mpp)
    pixels = np.stack(np.mgrid[:size_px, :size_px], -1).reshape(-1, 2) + 0.5
    depth, owner = _deepest(pixels, centres, _metrics(rng, len(centres), mpp))
    inside = rng.random(len(centres))[owner] > 0.1 if density == "packed" else depth < 1
    labels = np.where(inside, owner + 1, 0).reshape(size_px, size_px).astype(np.int32)
    return _largest_pieces(labels)


def noisy_maps(
    labels: np.ndarray, maps: np.ndarray, blur_px: float = 0.7, noise: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A foreground, blurred, and maps (n, H, W) with Gaussian noise, blurred; float32."""
    noise_maps = np.random.default_rng(seed).normal(0, noise, maps.shape)
    blurred = [cv2.GaussianBlur(one, (0, 0), blur_px) for one in maps + noise_maps]
    foreground = cv2.GaussianBlur((labels > 0).astype(np.float32), (0, 0), blur_px)
    return foreground, np.stack(blurred).astype(np.float32)


def recovery(truth: np.ndarray, found: np.ndarray) -> Recovery:
    """Match instances at IoU > .5, whatever their ids."""
    truth, found = (np.unique(one, return_inverse=True)[1].reshape(-1) for one in (truth, found))
    area_truth, area_found = np.bincount(truth), np.bincount(found)
    pairs, shared = np.unique(truth * len(area_found) + found, return_counts=True)
    i, j = np.divmod(pairs, len(area_found))
    iou = (shared / (area_truth[i] + area_found[j] - shared))[(i > 0) & (j > 0)]
    matched, n_truth, n_found = iou[iou > 0.5], len(area_truth) - 1, len(area_found) - 1
    return Recovery(
        n_truth, n_found, len(matched) / n_truth, matched.sum() / ((n_truth + n_found) / 2)
    )


def pieces_of(labels: np.ndarray) -> np.ndarray:
    """(H, W) a number for every 4-connected piece of one label, background's included."""
    place = np.arange(labels.size).reshape(labels.shape)
    down, right = labels[:-1] == labels[1:], labels[:, :-1] == labels[:, 1:]
    rows = np.concatenate([place[:-1][down], place[:, :-1][right]])
    columns = np.concatenate([place[1:][down], place[:, 1:][right]])
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), (labels.size,) * 2)
    return connected_components(graph, directed=False)[1].reshape(labels.shape)


def _metrics(rng: np.random.Generator, count: int, mpp: float) -> np.ndarray:
    """(n, 2, 2): matrices that turn offsets in px into a unit circle of each nucleus."""
    across = rng.uniform(4.0, 9.0, count) / mpp
    aspect, angle = rng.uniform(0.6, 1.0, count), rng.uniform(0, np.pi, count)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
    radii = np.stack([across / 2 / aspect**0.5, across / 2 * aspect**0.5], -1)
    return turn / radii[:, :, None]


def _deepest(
    pixels: np.ndarray, centres: np.ndarray, metrics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel, the nucleus among the eight nearest that it lies deepest in, and how deep."""
    near = cKDTree(centres).query(pixels, min(8, len(centres)))[1].reshape(len(pixels), -1)
    best, owner = np.full(len(pixels), np.inf), np.zeros(len(pixels), int)
    for one in near.T:
        offset, metric = pixels - centres[one], metrics[one]
        depth = np.hypot(
            metric[:, 0, 0] * offset[:, 0] + metric[:, 0, 1] * offset[:, 1],
            metric[:, 1, 0] * offset[:, 0] + metric[:, 1, 1] * offset[:, 1],
        )
        closer = depth < best
        best[closer], owner[closer] = depth[closer], one[closer]
    return best, owner


def _largest_pieces(labels: np.ndarray, least_px: int = 4) -> np.ndarray:
    """Drop what an overlap cut off, and what is left of nuclei with hardly a pixel."""
    pieces = pieces_of(labels)
    area = np.bincount(pieces.reshape(-1))
    of_label = np.zeros(len(area), int)
    of_label[pieces.reshape(-1)] = labels.reshape(-1)
    order = np.lexsort((area, of_label))
    largest = np.append(np.diff(of_label[order]) != 0, True)
    kept = np.zeros(len(area), bool)
    kept[order[largest]] = True
    kept &= (area >= least_px) & (of_label > 0)
    return np.where(kept[pieces], labels, 0).astype(np.int32)
