"""Nuclei and cells of a demo tissue: their shapes, where they sit, and the label images they leave.

Nuclei are drawn one by one on small patches. A newcomer yields to those already there, so neighbours
touch along a common border, as in dense tissue, and never overlap in the label image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from tissueseg.store.demo.anatomy import Regions
from tissueseg.store.demo.fields import Field, bell, grid
from tissueseg.store.demo.panel import (
    B_CELL,
    CYTOTOXIC_T,
    ENDOTHELIA,
    HELPER_T,
    MACROPHAGE,
    OTHER,
    STROMA,
    TREG,
    TUMOR,
)

MIN_AREA_PX = 6
OUTLINE_ROOM = 1.35  # outlines wave and bow out of the ellipse they start from
MIN_HALF_WIDTH_PX = 0.9  # thinner ones would break up on the pixel grid
TRIES_PER_NUCLEUS = 40
GUARDED_SHARE = 0.1  # of the tries, those that keep `guard_um` clear


@dataclass(frozen=True)
class Morphology:
    """How nuclei of one class look and sit."""

    length_um: float  # long axis, mean
    length_cv: float  # its relative deviation
    aspect: float  # short axis / long axis, mean
    taper: float = 0.0  # 0 ellipse, 0.7 spindle
    bend: float = 0.0  # 1/µm, sideways bow of the long axis
    rough: float = 0.05  # relative amplitude of the outline's waves
    aligned: float = 9.0  # radians of scatter about the local direction; 9: any
    overlap: float = 0.2  # share that may be cut off by neighbours
    reach_um: float = 1.6  # how far the cell extends beyond its nucleus
    guard_um: float = 0.0  # room the first nuclei keep around them, so that nests fill evenly

    @property
    def area_um2(self) -> float:
        """Typical area."""
        return np.pi / 4 * self.length_um**2 * self.aspect * (1 - 0.35 * self.taper)


LYMPHOCYTE = Morphology(7.2, 0.09, 0.88, rough=0.035, reach_um=1.5)
MORPHOLOGY: dict[int, Morphology] = {  # in the order of drawing: who needs a place most comes first
    ENDOTHELIA: Morphology(12.0, 0.18, 0.26, taper=0.55, rough=0.02, aligned=0.10, reach_um=2.0),
    TUMOR: Morphology(12.0, 0.16, 0.72, rough=0.045, overlap=0.24, reach_um=12.0, guard_um=2.5),
    B_CELL: Morphology(7.6, 0.08, 0.90, rough=0.035, reach_um=1.5),
    TREG: LYMPHOCYTE,
    CYTOTOXIC_T: LYMPHOCYTE,
    HELPER_T: LYMPHOCYTE,
    MACROPHAGE: Morphology(9.6, 0.14, 0.66, bend=0.11, rough=0.06, reach_um=4.0),
    OTHER: Morphology(7.8, 0.10, 0.86, rough=0.04, reach_um=2.8),  # plasma cells, granulocytes
    STROMA: Morphology(
        13.5, 0.24, 0.26, taper=0.45, bend=0.02, rough=0.025, aligned=0.16, overlap=0.15
    ),
}
PALISADE_ASPECT = 0.45  # of tumour nuclei in a full palisade
PALISADE_SCATTER = 0.22  # radians about the direction inwards


class Nuclei(NamedTuple):
    """Label images of a tissue's nuclei and of the cells around them."""

    instances: np.ndarray  # (H, W) int32, 0 background
    kinds: np.ndarray  # (n + 1,) uint8, class id of every instance, 0 first
    cells: np.ndarray  # (H, W) int32, the cell each pixel belongs to, nucleus included; 0 none

    @property
    def classes(self) -> np.ndarray:
        """(H, W) uint8 class image."""
        return self.kinds[self.instances]


def place_nuclei(
    rng: np.random.Generator, regions: Regions, shares: np.ndarray, luck: np.ndarray
) -> Nuclei:
    """Place nuclei class by class until each covers its share of the field.

    Args:
        rng: stream of the anatomy.
        regions: where what may lie.
        shares: (10,) share of all pixels wanted per class id.
        luck: (10,) in [0, 1), the fraction of a nucleus by which a class may fall short of its
            share; spread evenly over a cohort, it keeps rare classes at their share there.
    """
    labels = np.zeros(regions.nest.shape, np.int32)
    kinds = [0]
    for kind, morphology in MORPHOLOGY.items():
        quota = shares[kind] * labels.size
        typical = max(morphology.area_um2 / regions.mpp**2, MIN_AREA_PX)
        where = _density(regions, kind)
        tries = int(TRIES_PER_NUCLEUS * (quota / typical + 1))
        guard = int(morphology.guard_um / regions.mpp)
        for k, (y, x) in enumerate(_candidates(rng, where, tries)):
            if quota <= luck[kind] * typical:
                break
            if k < GUARDED_SHARE * tries and _crowded(labels, y, x, guard):
                continue
            shape = _draw_shape(rng, regions, kind, morphology, (y, x))
            area = _stamp(labels, where > 0, shape, (y, x), len(kinds), morphology.overlap)
            if area:
                kinds.append(kind)
                quota -= area
    kinds = np.array(kinds, np.uint8)
    return Nuclei(labels, kinds, _cells(labels, kinds, regions))


def _crowded(labels: np.ndarray, y: int, x: int, guard_px: int) -> bool:
    """Whether a nucleus lies within a square around a place."""
    room = np.s_[max(y - guard_px, 0) : y + guard_px + 1, max(x - guard_px, 0) : x + guard_px + 1]
    return bool(labels[room].any())


def _candidates(rng: np.random.Generator, density: Field, count: int) -> np.ndarray:
    """(count, 2) rows and columns drawn in proportion to a density; none where it is all zero."""
    heap = np.cumsum(density, dtype=np.float64)
    if heap[-1] <= 0:
        return np.zeros((0, 2), int)
    flat = np.searchsorted(heap, rng.random(count) * heap[-1], side="right")
    return np.stack(np.unravel_index(np.minimum(flat, density.size - 1), density.shape), -1)


def _density(regions: Regions, kind: int) -> Field:
    """Where nuclei of a class tend to lie; exactly 0 where they may not."""
    stroma = regions.stroma.astype(np.float32)
    if kind == ENDOTHELIA:
        return np.where(regions.wall > 0.55, regions.wall, 0) * ~regions.void
    if kind == TUMOR:
        basal = bell(regions.depth - 8.5, 5.5) + 0.12
        inner = regions.plan.palisade * basal + (1 - regions.plan.palisade)
        return inner * regions.nest * (regions.depth > 2)
    if kind in (HELPER_T, TREG, B_CELL):
        sharp = 4.0 if kind == B_CELL else 2.0
        return stroma * (0.015 + regions.cluster**sharp)
    if kind == CYTOTOXIC_T:
        return stroma * (0.04 + regions.cluster) + 0.10 * regions.nest
    if kind == MACROPHAGE:
        return stroma * (0.25 + regions.loose + 0.5 * regions.cluster) + 0.03 * regions.nest
    if kind == OTHER:
        return stroma * (0.3 * regions.loose + regions.cluster + 0.1)
    return stroma * (0.35 + regions.fibres) * (1 - 0.75 * regions.cluster) * (1 - regions.wall)


class _Shape(NamedTuple):
    """A nucleus before it is stamped, in pixels and radians."""

    half: tuple[float, float]
    angle: float
    taper: float
    bend: float
    waves: np.ndarray  # (2, 4) cosine and sine amplitudes of 2 … 5 waves round the outline


def _draw_shape(
    rng: np.random.Generator, regions: Regions, kind: int, m: Morphology, at: tuple[int, int]
) -> _Shape:
    """Draw size, direction and outline of one nucleus."""
    aspect, angle, scatter, bend = m.aspect, regions.angle[at], m.aligned, m.bend
    if kind == TUMOR and rng.random() < regions.plan.palisade:
        aspect, angle, scatter = PALISADE_ASPECT, regions.radial[at], PALISADE_SCATTER
    aspect = np.clip(aspect * np.exp(0.13 * rng.standard_normal()), 0.2, 1.0)
    length = m.length_um * np.exp(m.length_cv * rng.standard_normal()) / regions.mpp
    bend = bend * rng.normal(1, 0.5) * rng.choice((-1, 1))
    if scatter < 1:
        bend = bend + (regions.curvature[at] if kind != TUMOR else 0)
    turn = scatter * rng.standard_normal() if scatter < 1 else rng.uniform(0, np.pi)
    return _Shape(
        half=(length / 2, max(length * aspect / 2, MIN_HALF_WIDTH_PX)),
        angle=float(angle + turn),
        taper=m.taper,
        bend=float(bend * regions.mpp),
        waves=m.rough * rng.standard_normal((2, 4)) / np.arange(1.0, 5.0) ** 0.5,
    )


def _outline(shape: _Shape, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bool mask of a shape on pixel offsets from its centre."""
    along = np.cos(shape.angle) * columns + np.sin(shape.angle) * rows
    across = np.cos(shape.angle) * rows - np.sin(shape.angle) * columns
    along, across = (
        along / shape.half[0],
        across - shape.bend * (along**2 - shape.half[0] ** 2 / 3) / 2,
    )
    across = across / (shape.half[1] * np.maximum(1 - shape.taper * along**2, 0.2))
    turn = np.arctan2(across, along)[..., None] * np.arange(2, 6)
    edge = 1 + (np.cos(turn) * shape.waves[0] + np.sin(turn) * shape.waves[1]).sum(-1)
    return along**2 + across**2 < edge**2


def _stamp(
    labels: np.ndarray,
    allowed: np.ndarray,
    shape: _Shape,
    at: tuple[int, int],
    label: int,
    overlap: float,
) -> int:
    """Write a nucleus into the label image where it is free; returns its area, 0 if refused."""
    if labels[at]:
        return 0
    size = int(np.ceil(shape.half[0] * OUTLINE_ROOM)) + 2
    top, left = max(at[0] - size, 0), max(at[1] - size, 0)
    window = np.s_[top : at[0] + size + 1, left : at[1] + size + 1]
    patch = labels[window]
    rows, columns = grid(*patch.shape)
    wanted = _outline(shape, rows + (top - at[0]), columns + (left - at[1]))
    full = int(np.count_nonzero(wanted))
    free = _largest(wanted & (patch == 0))
    area = int(np.count_nonzero(free))
    inside = int(np.count_nonzero(free & allowed[window]))
    if area < max(MIN_AREA_PX, (1 - overlap) * full) or inside < 0.75 * area:
        return 0
    patch[free] = label
    return area


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected part of a mask."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count <= 2:
        return mask
    return parts == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def _cells(labels: np.ndarray, kinds: np.ndarray, regions: Regions) -> np.ndarray:
    """Cells: every pixel near enough goes to its nearest nucleus; tumour cells stay in their nest."""
    if labels.max() == 0:
        return labels
    outside, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(nearest.max() + 1, np.int32)
    owner[nearest[labels > 0]] = labels[labels > 0]
    cells = owner[nearest]
    reach = np.zeros(len(kinds), np.float32)
    for kind, morphology in MORPHOLOGY.items():
        reach[kinds == kind] = morphology.reach_um / regions.mpp
    tumor = kinds[cells] == TUMOR
    home = np.where(tumor, regions.nest, ~(regions.void | regions.vessel | regions.lumen))
    return np.where((labels > 0) | ((outside <= reach[cells]) & home), cells, 0)
