"""The lay of the land of a demo tissue: nests, glands, vessels, collagen, lymphoid clusters, gaps.

A tissue follows one of four plans, and the plan fixes how much of each cell class it gets: real
cohorts are mixtures of such fields, and a model that sees only one fails on the next. Plans take
turns over the index of the tissue, so that even a small cohort holds all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tissueseg.store.demo.fields import (
    Field,
    bell,
    blur,
    distance,
    divergence,
    gradient,
    grid,
    ranks,
    signed_distance,
    smear,
    smooth_noise,
    step,
)

FIBRE_LENGTH_UM = 11.0
WALL_UM = 3.0  # thickness of a vessel wall that carries endothelium
EPITHELIUM_UM = 25.0  # height of the epithelium around a gland lumen
VESSEL_SPACING_UM = 62.0
SPECK_UM2 = 250.0  # smaller nests are left out


@dataclass(frozen=True)
class Plan:
    """One kind of field of view."""

    name: str
    factors: tuple[float, ...]  # per class id, times its share in the study; mean 1 over the plans
    packing: float  # share of epithelium that nuclei cover
    palisade: float  # 0: nuclei anywhere in the nest, 1: in rows at its base
    vessels: int  # per 0.25 × 0.25 mm
    clusters: float  # strength of lymphoid aggregates
    gap: float  # share of the field that is torn or empty


PLANS = (
    Plan("glands", (0, 0.75, 1.40, 0.7, 0.6, 0.6, 0.7, 0.8, 0.6, 0.5), 0.41, 1.0, 2, 0.7, 0.02),
    Plan("nests", (0, 0.85, 1.40, 1.2, 0.7, 1.2, 0.8, 1.0, 1.1, 0.8), 0.39, 0.1, 2, 0.7, 0.03),
    Plan("front", (0, 1.05, 0.85, 1.2, 2.0, 1.6, 1.0, 1.2, 1.7, 1.9), 0.38, 0.5, 3, 1.6, 0.02),
    Plan("fibrous", (0, 1.35, 0.35, 0.9, 0.7, 0.6, 1.5, 1.0, 0.6, 0.8), 0.36, 0.2, 5, 0.8, 0.10),
)


@dataclass(frozen=True)
class Regions:
    """What lies where; masks are bool, fields float32, all (H, W), lengths in µm."""

    mpp: float
    plan: Plan
    nest: np.ndarray  # epithelium, without its lumina
    depth: Field  # µm from the base of the nest inwards
    lumen: np.ndarray  # of glands
    vessel: np.ndarray  # lumina of vessels
    wall: Field  # 1 on vessel walls, fading to both sides
    void: np.ndarray  # clefts, tears and bare glass
    angle: Field  # direction of collagen and vessel walls, radians
    curvature: Field  # of those directions, 1/µm
    radial: Field  # direction from the base of a nest inwards, radians
    fibres: Field  # 0 between collagen fibres, 1 on them
    loose: Field  # 0 dense, 1 loose stroma
    cluster: Field  # 0 … 1, lymphoid aggregates

    @property
    def stroma(self) -> np.ndarray:
        """Connective tissue: neither epithelium nor any hole."""
        return ~(self.nest | self.lumen | self.vessel | self.void)


def plan_of(seed: int, index: int) -> Plan:
    """The plan of one tissue: plans take turns, in an order that the seed draws."""
    order = np.random.default_rng([seed, 4]).permutation(len(PLANS))
    return PLANS[order[index % len(PLANS)]]


def lay_out(
    rng: np.random.Generator, size_px: int, mpp: float, plan: Plan, epithelium: float
) -> Regions:
    """Lay out the regions of one tissue.

    Args:
        rng: stream of the anatomy.
        size_px: height and width.
        mpp: µm per pixel.
        plan: which kind of field.
        epithelium: share of the field that nests cover, without gland lumina.
    """
    shape = _nest_shape(rng, size_px, mpp, plan)
    solid, lumen = _nests(rng, shape, mpp, plan, epithelium)
    edge = signed_distance(solid) * mpp
    vessel_edge = _vessels(rng, size_px, mpp, plan, edge)
    angle, curvature = _flow(rng, size_px, mpp, np.minimum(edge, vessel_edge))
    loose = ranks(smooth_noise(rng, size_px, 45 / mpp))
    fibres = _fibres(rng, angle, mpp)
    vessel = vessel_edge < -WALL_UM / 2
    void = _voids(rng, size_px, mpp, plan, edge, fibres) & (
        vessel_edge > 7 + 4 * smooth_noise(rng, size_px, 12 / mpp)
    )
    nest = solid & ~lumen & ~void & ~vessel
    down, right = gradient(blur(-edge, 3 / mpp))
    return Regions(
        mpp=mpp,
        plan=plan,
        nest=nest,
        depth=np.maximum(-edge, 0),
        lumen=lumen & ~void,
        vessel=vessel,
        wall=bell(vessel_edge, WALL_UM) * ~nest,
        void=void,
        angle=angle,
        curvature=curvature,
        radial=np.arctan2(down, right),
        fibres=fibres,
        loose=loose,
        cluster=_clusters(rng, size_px, mpp, plan, edge),
    )


def _nest_shape(rng: np.random.Generator, size_px: int, mpp: float, plan: Plan) -> Field:
    """A field whose highest parts become epithelium; its look is the plan's."""
    ragged = smooth_noise(rng, size_px, 26 / mpp) + 0.4 * smooth_noise(rng, size_px, 9 / mpp)
    if plan.name == "glands":
        return -_cells(rng, size_px, mpp, spacing_um=100.0) / 30 + 0.2 * ragged
    if plan.name == "front":
        turn = rng.uniform(0, 2 * np.pi)
        rows, columns = grid(size_px, size_px, mpp / 60)
        slope = np.cos(turn) * rows + np.sin(turn) * columns
        glands = _cells(rng, size_px, mpp, spacing_um=88.0) / 30
        return 0.9 * slope - glands + 0.2 * ragged
    scale_um = 52.0 if plan.name == "nests" else 34.0
    return smooth_noise(rng, size_px, scale_um / mpp) + 0.22 * ragged


def _cells(rng: np.random.Generator, size_px: int, mpp: float, spacing_um: float) -> Field:
    """µm to the nearest of scattered centres, bent and squeezed: the outlines of glands."""
    extent_um = size_px * mpp
    nodes = np.arange(-0.5, extent_um / spacing_um + 1.5)
    lattice = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    centres = (
        lattice + rng.uniform(-0.33, 0.33, lattice.shape) + rng.uniform(-0.5, 0.5, 2)
    ) * spacing_um
    bend = [smooth_noise(rng, size_px, 48 / mpp) * 12 for _ in range(2)]
    y, x = (line + bent for line, bent in zip(grid(size_px, size_px, mpp), bend, strict=True))
    nearest = np.full((size_px, size_px), np.inf, np.float32)
    for (cy, cx), turn in zip(centres, rng.uniform(0, np.pi, len(centres)), strict=True):
        along = np.cos(turn) * (y - cy) + np.sin(turn) * (x - cx)
        across = np.cos(turn) * (x - cx) - np.sin(turn) * (y - cy)
        scale = rng.uniform(0.8, 1.25)
        nearest = np.minimum(nearest, np.hypot(along * 0.8, across * 1.25) * scale)
    return nearest.astype(np.float32)


def _nests(
    rng: np.random.Generator, shape: Field, mpp: float, plan: Plan, epithelium: float
) -> tuple[np.ndarray, np.ndarray]:
    """(solid nests, their lumina), with the wanted share of epithelium between the two."""
    wobble = smooth_noise(rng, shape.shape[0], 14 / mpp)
    spots = smooth_noise(rng, shape.shape[0], 17 / mpp)
    solid = lumen = np.zeros(shape.shape, bool)
    for cover in np.linspace(epithelium, min(2.2 * epithelium, 0.97), 10):
        solid = _without_specks(shape > np.quantile(shape, 1 - cover), SPECK_UM2 / mpp**2)
        depth = distance(solid) * mpp
        if plan.palisade > 0.3:
            lumen = solid & (depth > EPITHELIUM_UM * (0.92 + 0.10 * wobble))
        else:
            lumen = solid & (depth > 11) & (spots > 1.55)
        if (solid & ~lumen).mean() >= epithelium:
            break
    return solid, lumen


def _without_specks(mask: np.ndarray, min_area_px: float) -> np.ndarray:
    """A mask without its small parts, unless they are all it has."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= min_area_px
    large[0] = False
    return large[np.asarray(parts, np.intp)] if large.any() else mask


def _vessels(
    rng: np.random.Generator, size_px: int, mpp: float, plan: Plan, nest_edge: Field
) -> Field:
    """Signed µm to the nearest vessel's wall line, negative in its lumen; vessels keep off nests."""
    extent_um = size_px * mpp
    y, x = grid(size_px, size_px, mpp)
    bend = smooth_noise(rng, size_px, 20 / mpp) * 2.2
    edge = np.full((size_px, size_px), 1e3, np.float32)
    wanted = rng.poisson(plan.vessels * (extent_um / 250) ** 2 * 1.3)
    for _ in range(12 * max(wanted, 1)):
        cy, cx = rng.uniform(0, extent_um, 2)
        radius, stretch = 6.0 + 15.0 * rng.random() ** 1.6, rng.uniform(1.0, 2.1)
        at = (int(cy / mpp), int(cx / mpp))
        if not wanted or nest_edge[at] < radius + 4 or edge[at] < VESSEL_SPACING_UM / 2 + radius:
            continue
        turn = rng.uniform(0, np.pi)
        along = np.cos(turn) * (y - cy) + np.sin(turn) * (x - cx)
        across = np.cos(turn) * (x - cx) - np.sin(turn) * (y - cy)
        round_um = np.hypot(along / stretch, across * np.sqrt(stretch)) - radius
        edge = np.minimum(edge, (round_um + bend).astype(np.float32))
        wanted -= 1
    solid = (edge < 0) & (nest_edge > 2)
    return signed_distance(solid) * np.float32(mpp)


def _flow(
    rng: np.random.Generator, size_px: int, mpp: float, edge_um: Field
) -> tuple[Field, Field]:
    """Direction (radians) and curvature (1/µm) of collagen: streams that bend round structures."""
    stream = 42 * smooth_noise(rng, size_px, 125 / mpp)
    turn = rng.uniform(0, 2 * np.pi)
    rows, columns = grid(size_px, size_px, mpp)
    stream += np.float32(np.cos(turn)) * rows + np.float32(np.sin(turn)) * columns
    near = np.exp(-np.maximum(edge_um, 0) / 8)
    stream = (1 - near) * stream * 0.5 + 1.6 * edge_um * near
    down, right = gradient(blur(stream, 2.5 / mpp))
    curvature = np.clip(blur(divergence(down, right), 2 / mpp) / mpp, -0.09, 0.09)
    away = step(edge_um, 2, 10)
    wave = smooth_noise(rng, size_px, 9 / mpp) * 0.17 + smooth_noise(rng, size_px, 4 / mpp) * 0.12
    return np.arctan2(right, -down) + wave * away, curvature


def _fibres(rng: np.random.Generator, angle: Field, mpp: float) -> Field:
    """Collagen: fine and coarse noise smeared along the flow, as an even grey scale."""
    size_px = angle.shape[0]
    fine = smear(smooth_noise(rng, size_px, 0.7 / mpp), angle, FIBRE_LENGTH_UM / mpp)
    coarse = smear(smooth_noise(rng, size_px, 2.2 / mpp), angle, 2 * FIBRE_LENGTH_UM / mpp)
    return ranks(fine / fine.std() + 0.9 * coarse / coarse.std())


def _voids(
    rng: np.random.Generator, size_px: int, mpp: float, plan: Plan, edge: Field, fibres: Field
) -> np.ndarray:
    """Retraction clefts along nests, tears along fibres, and for some plans bare glass."""
    width = smooth_noise(rng, size_px, 30 / mpp)
    cleft = (np.abs(edge - 1.2) < 1.7 * np.clip(width - 0.9, 0, 1.3)) & (edge > -0.7)
    weak = smooth_noise(rng, size_px, 38 / mpp)
    tear = (weak > 1.0) & (fibres < 0.12 + 0.40 * (weak - 1.0)) & (edge > 3)
    glass = smooth_noise(rng, size_px, 110 / mpp) + 0.08 * smooth_noise(rng, size_px, 10 / mpp)
    bare = (glass > np.quantile(glass, 1 - plan.gap)) & (edge > 5)
    ragged = blur((tear | bare).astype(np.float32), 0.9 / mpp) > 0.5
    return cleft | ragged


def _clusters(rng: np.random.Generator, size_px: int, mpp: float, plan: Plan, edge: Field) -> Field:
    """Lymphoid aggregates: beside nests, and knots anywhere in the stroma."""
    rim = bell(edge - 16, 16) * step(smooth_noise(rng, size_px, 50 / mpp), -0.2, 1.2)
    knots = step(smooth_noise(rng, size_px, 40 / mpp), 0.9, 1.7)
    return np.clip(plan.clusters * (0.7 * rim + knots), 0, 1) * (edge > 0)
