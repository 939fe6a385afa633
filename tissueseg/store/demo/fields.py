"""Random and derived scalar fields that the demo tissue is shaped and textured with.

Every length is in pixels here; callers divide micrometres by the pixel size once. Fields are float32,
which halves the time of a drawing and is far finer than any image made from them.
"""

from __future__ import annotations

import cv2
import numpy as np

Field = np.ndarray
"""(H, W) float32."""

CUBIC_GAIN = 1.35  # restores the deviation that interpolating between random values loses
FIBRE_STEPS = 14  # samples to each side when noise is smeared along a flow


def smooth_noise(rng: np.random.Generator, size_px: int, scale_px: float) -> Field:
    """(H, W) smooth noise, about zero mean and unit deviation, with blobs of about `scale_px`.

    The field is a small grid of normal numbers enlarged by cubic interpolation, so that its cost does
    not grow with the scale. The deviation is that of the ensemble: a window smaller than the scale
    is nearly flat, as it would be in tissue.
    """
    scale_px = max(scale_px, 1.0)
    nodes = int(np.ceil(size_px / scale_px)) + 4
    values = rng.standard_normal((nodes, nodes), dtype=np.float32)
    shift = rng.random(2, dtype=np.float32) + 1
    rows, columns = grid(size_px, size_px, 1 / scale_px)
    noise = cv2.remap(values, columns + shift[1], rows + shift[0], cv2.INTER_CUBIC)
    return np.asarray(noise) * np.float32(CUBIC_GAIN)


def grid(height: int, width: int, spacing: float = 1.0) -> tuple[Field, Field]:
    """Row and column of every pixel, times `spacing`."""
    rows = np.arange(height, dtype=np.float32) * np.float32(spacing)
    columns = np.arange(width, dtype=np.float32) * np.float32(spacing)
    return rows[:, None].repeat(width, axis=1), columns[None].repeat(height, axis=0)


def blur(field: Field, sigma_px: float) -> Field:
    """Gaussian blur; wide ones are computed on a reduced image."""
    if sigma_px < 0.2:
        return field
    if sigma_px < 6:
        return cv2.GaussianBlur(field, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT)
    factor = 3.0 / sigma_px
    small = cv2.resize(field, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 3.0, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(small, field.shape[::-1], interpolation=cv2.INTER_CUBIC)


def step(field: Field, low: float, high: float) -> Field:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bell(field: Field, width: float) -> Field:
    """exp(-(field / width)²): 1 at zero, fading over `width`."""
    return np.exp(-np.square(field / width))


def distance(mask: np.ndarray) -> Field:
    """Distance of every true pixel to the nearest false one, 0 outside; large when there is none."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)


def signed_distance(mask: np.ndarray) -> Field:
    """Positive outside of the mask, negative inside."""
    limit = float(2 * max(mask.shape))
    return np.clip(distance(~mask), 0, limit) - np.clip(distance(mask), 0, limit)


def gradient(field: Field) -> tuple[Field, Field]:
    """Unit vectors (rows, columns) of steepest ascent."""
    down = cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3)
    right = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3)
    norm = np.sqrt(down * down + right * right) + 1e-6
    return down / norm, right / norm


def divergence(down: Field, right: Field) -> Field:
    """Divergence of a vector field per pixel; of unit normals, the curvature of the level lines."""
    return (
        cv2.Sobel(down, cv2.CV_32F, 0, 1, ksize=3) + cv2.Sobel(right, cv2.CV_32F, 1, 0, ksize=3)
    ) / 8


def smear(texture: Field, angle: Field, length_px: float) -> Field:
    """Average a texture along a direction field: white noise turns into fibres.

    Line integral convolution (Cabral & Leedom, SIGGRAPH 1993) with straight half-steps.

    Args:
        texture: (H, W) what is smeared.
        angle: (H, W) radians from the column axis towards growing rows.
        length_px: how far to each side.
    """
    rows, columns = grid(*texture.shape)
    right, down = np.cos(angle), np.sin(angle)
    stride = np.float32(length_px / FIBRE_STEPS)
    total, weight = texture.copy(), 1.0
    for sign in (-stride, stride):
        y, x = rows, columns
        for k in range(1, FIBRE_STEPS + 1):
            y = y + sign * cv2.remap(down, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            x = x + sign * cv2.remap(right, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            fade = 1 - k / (FIBRE_STEPS + 1)
            total += fade * cv2.remap(
                texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            )
            weight += fade
    return total / np.float32(weight)


def ranks(field: Field) -> Field:
    """The share of pixels below each pixel's value, in [0, 1]: an even grey scale."""
    edges = np.quantile(field[::2, ::2], np.linspace(0, 1, 65)).astype(np.float32)
    return np.interp(field, edges, np.linspace(0, 1, 65)).astype(np.float32)
