"""The H&E image of a demo tissue: concentrations of two stains, turned into light by Beer–Lambert.

Nuclei differ by morphology only (pale large tumour nuclei, dark round lymphocytes, spindles), so
H&E tells the lymphocyte classes no better apart than a real slide does.
"""

from __future__ import annotations

import cv2
import numpy as np

from tissueseg.store.demo.anatomy import Regions
from tissueseg.store.demo.fields import Field, bell, blur, distance, grid, ranks, smooth_noise, step
from tissueseg.store.demo.nuclei import Nuclei
from tissueseg.store.demo.panel import MACROPHAGE, TUMOR

HAEMATOXYLIN = np.array(
    [0.650, 0.704, 0.286]
)  # optical density in R, G, B (Ruifrok & Johnston 2001)
EOSIN = np.array([0.110, 0.860, 0.420])  # between Ruifrok's and Macenko's (2009), as slides look
STAIN_SCATTER = 0.035  # of each entry, between tissues
FOCUS_UM = 0.42  # blur of the optics

# per class id: haematoxylin of the nucleus, its cell-to-cell deviation, depth of chromatin
# texture, strength of the rim, nucleoli per nucleus
NUCLEUS = np.array(
    [
        (0.00, 0.00, 0.00, 0.00, 0.0),
        (0.66, 0.26, 0.24, 0.15, 0.1),  # stroma
        (0.48, 0.16, 0.36, 0.36, 1.5),  # tumor
        (0.56, 0.14, 0.26, 0.24, 0.5),  # macrophage
        (1.08, 0.14, 0.24, 0.12, 0.0),  # lymphocytes look alike
        (1.08, 0.14, 0.24, 0.12, 0.0),
        (0.82, 0.16, 0.18, 0.15, 0.0),  # endothelia
        (1.00, 0.16, 0.34, 0.20, 0.0),  # other
        (1.08, 0.14, 0.24, 0.12, 0.0),
        (1.08, 0.14, 0.24, 0.12, 0.0),
    ],
    np.float32,
)
# per class id: haematoxylin and eosin that the cytoplasm adds
CYTOPLASM = np.array(
    [
        (0, 0),
        (0.02, 0.05),
        (0, 0),
        (0.03, 0.02),
        (0.10, 0.05),
        (0.10, 0.05),
        (0.02, 0.16),
        (0.12, 0.11),
        (0.10, 0.05),
        (0.10, 0.05),
    ],
    np.float32,
)


def render_he(rng: np.random.Generator, regions: Regions, nuclei: Nuclei) -> np.ndarray:
    """(3, H, W) uint8 RGB of a tissue, with a stain and illumination of its own."""
    haematoxylin, eosin = _matrix(rng, regions)
    _add_blood(rng, regions, haematoxylin, eosin)
    _add_cytoplasm(rng, regions, nuclei, haematoxylin, eosin)
    _add_nuclei(rng, regions, nuclei, haematoxylin, eosin)
    return _develop(rng, regions, haematoxylin, eosin)


def _matrix(rng: np.random.Generator, regions: Regions) -> tuple[Field, Field]:
    """Stains outside cells: collagen, epithelium's ground, contents of lumina, glass."""
    size_px, mpp = regions.nest.shape[0], regions.mpp
    fibres, loose = regions.fibres, regions.loose
    fog = smooth_noise(rng, size_px, 22 / mpp)
    grain = smooth_noise(rng, size_px, 1.1 / mpp)
    gaps = step(fibres, -0.15, 0.20 + 0.42 * rng.uniform(0.7, 1.2))
    gaps = 1 - (1 - gaps) * step(loose, 0.3, 1.0)
    eosin = (0.15 + 0.19 * fibres + 0.08 * (1 - loose) + 0.03 * fog) * (1 + 0.09 * grain) * gaps
    haematoxylin = (0.05 + 0.05 * loose + 0.05 * (fibres - 0.5) + 0.10 * regions.cluster) * gaps
    eosin += 0.14 * regions.wall
    nest = blur(regions.nest.astype(np.float32), 0.5 / mpp)
    mottled = 1 + 0.10 * grain + 0.12 * smooth_noise(rng, size_px, 3 / mpp) + 0.12 * fog
    eosin += nest * ((0.22 + 0.05 * rng.standard_normal()) * mottled - eosin)
    haematoxylin += nest * ((0.17 + 0.03 * rng.standard_normal()) * mottled - haematoxylin)
    empty = blur((regions.void | regions.lumen | regions.vessel).astype(np.float32), 0.5 / mpp)
    mucin = 0.07 * step(smooth_noise(rng, size_px, 30 / mpp), 0.2, 1.6) * fibres * regions.lumen
    eosin, haematoxylin = eosin * (1 - empty), haematoxylin * (1 - empty) + mucin
    return np.maximum(haematoxylin, 0), np.maximum(eosin + 0.04 * regions.vessel, 0)


def _add_blood(
    rng: np.random.Generator, regions: Regions, haematoxylin: Field, eosin: Field
) -> None:
    """Red cells: bright eosin discs with a paler middle, packed into some of the vessels."""
    mpp = regions.mpp
    count = int(regions.vessel.sum() * mpp**2 / 26)
    spots = np.argwhere(regions.vessel & (smooth_noise(rng, len(eosin), 24 / mpp) > -0.45))
    radius = 3.1 / mpp
    size = int(np.ceil(radius)) + 1
    for y, x in rng.permutation(spots)[:count]:
        top, left = max(y - size, 0), max(x - size, 0)
        window = np.s_[top : y + size + 1, left : x + size + 1]
        rows, columns = grid(*eosin[window].shape)
        squeeze = rng.uniform(0.8, 1.2)
        r = np.hypot((rows + top - y) * squeeze, (columns + left - x) / squeeze) / radius
        disc = step(-r, -1.0, -0.75) * (0.62 + 0.38 * step(r, 0.1, 0.8)) * regions.vessel[window]
        eosin[window] = np.maximum(eosin[window], rng.uniform(0.5, 0.7) * disc)
        haematoxylin[window] *= 1 - 0.5 * disc


def _add_cytoplasm(
    rng: np.random.Generator, regions: Regions, nuclei: Nuclei, haematoxylin: Field, eosin: Field
) -> None:
    """Cytoplasm by class, borders between tumour cells, goblets towards gland lumina."""
    mpp, size_px = regions.mpp, len(eosin)
    kinds = nuclei.kinds[nuclei.cells]
    vary = np.exp(0.3 * rng.standard_normal(len(nuclei.kinds))).astype(np.float32)[nuclei.cells]
    stains = CYTOPLASM[kinds]
    haematoxylin += blur(stains[..., 0] * vary, 0.5 / mpp)
    eosin += blur(stains[..., 1] * vary, 0.5 / mpp)
    foam = blur((kinds == MACROPHAGE).astype(np.float32), 0.7 / mpp)
    eosin *= 1 - 0.30 * foam * step(smooth_noise(rng, size_px, 1.3 / mpp), -0.3, 0.6)
    tumor = kinds == TUMOR
    border = bell(border_distance(nuclei.cells) * mpp, 0.55) * tumor
    eosin += 0.10 * border + 0.10 * (vary - 1) * tumor
    haematoxylin -= 0.05 * border
    if regions.plan.palisade > 0.3:
        apical = step(regions.depth, 15, 19) * regions.nest
        goblets = apical * step(smooth_noise(rng, size_px, 5.5 / mpp), 0.75, 1.05)
        eosin *= 1 - 0.72 * goblets
        haematoxylin *= 1 - 0.35 * goblets


def border_distance(cells: np.ndarray) -> Field:
    """Pixels to the nearest border between two different cells or a cell and none."""
    border = np.zeros(cells.shape, bool)
    border[:, 1:] |= cells[:, 1:] != cells[:, :-1]
    border[1:] |= cells[1:] != cells[:-1]
    return np.minimum(distance(~border), 4.0 * max(cells.shape))


def _add_nuclei(
    rng: np.random.Generator, regions: Regions, nuclei: Nuclei, haematoxylin: Field, eosin: Field
) -> None:
    """Chromatin: a level per nucleus, clumps, a rim, nucleoli; the ground shows through."""
    mpp, size_px = regions.mpp, len(eosin)
    labels, traits = nuclei.instances, NUCLEUS[nuclei.kinds]
    inside = labels > 0
    level = traits[:, 0] * np.exp(traits[:, 1] * rng.standard_normal(len(traits)))
    ruggedness = traits[:, 2] * rng.uniform(0.7, 1.3, len(traits))
    depth_um = border_distance(labels) * mpp
    clumps = ranks(
        smooth_noise(rng, size_px, 1.5 / mpp) + 0.7 * smooth_noise(rng, size_px, 0.8 / mpp)
    )
    texture = 1 + ruggedness[labels] * 2.0 * (clumps - 0.5)
    rim = 1 + traits[:, 3][labels] * (1.6 * bell(depth_um - 0.5, 0.55) - 0.35)
    chromatin = level[labels] * texture * rim * (0.72 + 0.28 * step(depth_um, 0, 0.8))
    chromatin += 0.65 * _nucleoli(rng, nuclei, traits[:, 4], mpp) * step(depth_um, 0.4, 1.2)
    cover = np.clip(inside, 0, 1).astype(np.float32)
    haematoxylin += cover * (chromatin.astype(np.float32) - 0.5 * haematoxylin)
    eosin *= 1 - 0.35 * cover


def _nucleoli(rng: np.random.Generator, nuclei: Nuclei, rate: np.ndarray, mpp: float) -> Field:
    """Small dark spots at random places in nuclei, about 1 at their centres."""
    inside = np.argwhere(nuclei.instances)
    spots = np.zeros(nuclei.instances.shape, np.float32)
    if not len(inside):
        return spots
    labels = nuclei.instances[tuple(inside.T)]
    areas = np.bincount(labels, minlength=len(rate))
    chosen = inside[rng.random(len(inside)) < (rate / np.maximum(areas, 1))[labels]]
    spots[tuple(chosen.T)] = rng.uniform(0.6, 1.3, len(chosen))
    sigma = 0.62 / mpp
    return blur(spots, sigma) * np.float32(max(2 * np.pi * sigma**2, 1.0))


def _develop(
    rng: np.random.Generator, regions: Regions, haematoxylin: Field, eosin: Field
) -> np.ndarray:
    """Beer–Lambert: light = lamp · 10^(−density), blurred by the optics, with the camera's noise."""
    size_px, mpp = len(eosin), regions.mpp
    vectors = np.stack([HAEMATOXYLIN, EOSIN]) + STAIN_SCATTER * rng.standard_normal((2, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = np.exp(rng.normal([0.0, -0.15], [0.14, 0.26]))
    stains = np.stack([blur(s, FOCUS_UM / mpp) for s in (haematoxylin, eosin)], -1)
    density = np.maximum(stains, 0) * amounts.astype(np.float32) @ vectors.astype(np.float32)
    lamp = np.array([246, 244, 246]) + rng.normal(0, [2.0, 2.5, 2.0])
    shade = 1 + 0.015 * smooth_noise(rng, size_px, 300 / mpp)
    light = lamp.astype(np.float32) * shade[..., None] * np.exp(-np.float32(np.log(10)) * density)
    noise = rng.standard_normal((size_px, size_px, 3), dtype=np.float32)
    light += 1.3 * cv2.GaussianBlur(noise, (0, 0), 0.6) + 0.8 * noise[..., :1]
    return np.ascontiguousarray(np.clip(np.rint(light), 0, 255).astype(np.uint8).transpose(2, 0, 1))
