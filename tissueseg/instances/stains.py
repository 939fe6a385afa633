"""Optical densities of the stains of H&E."""

from __future__ import annotations

import numpy as np

from tissueseg.instances.pixels import Pixels

HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""(stain, RGB) optical density of haematoxylin, eosin and DAB (Ruifrok & Johnston 2001, table 1)."""


def stain_densities(rgb: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Mean optical density of each stain in each cell, by colour deconvolution.

    Optical density is log10(256 / (RGB + 1)), so that black is finite and white has none. Stains are
    linear in it: the mean is deconvolved instead of every pixel. Ruifrok & Johnston, Quantification
    of histochemical staining by color deconvolution, 2001.

    Args:
        rgb: (3, H, W) uint8.
        pixels: of n cells, each with one at least.

    Returns:
        (n, 3) float64: haematoxylin, eosin, and what is neither (along their DAB). May be negative.
    """
    density = np.log10(256 / np.arange(1, 257))
    mean = [pixels.sums(density.take(plane.reshape(-1).take(pixels.index))) for plane in rgb]
    return np.stack(mean, axis=1) / pixels.counts[:, None] @ np.linalg.inv(HED)
