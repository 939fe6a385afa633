"""Cells as a tissue might have them, made without measuring anything: blobs, holes, pieces, odd names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tissueseg.instances.cell_table import CellSchema, CellTable, Outlines

Rings = list[tuple[list[tuple[float, float]], bool]]
"""Of one cell: points, closed, and whether the ring is a hole."""

ODD_NAMES = ('T "helper"', "B, naïve", "[x] {µ}", "100 %d\\n")
SCHEMA = CellSchema(
    tissue="slide 1: A/b",
    mpp=0.5,
    types=((1, "tumor", "#ff0000"), (2, "immune", "#00ff7f"), (4, "other", "#0a0b0c")),
    channels=("DAPI", "CD3"),
    embedding_width=3,
    about={"run": "r1", "decoder": "hv"},
)
PLAIN = CellSchema(tissue="plain", mpp=None, types=((1, "nucleus", "#e6550d"),))
ODD = replace(
    SCHEMA,
    types=tuple((i, name, f"#0000{i:02x}") for i, name in enumerate(ODD_NAMES, 1)),
    channels=("CD3, ε", 'HLA-"DR"', "Ki-67 [%]", "PD1/PD-L1"),
)


def square(
    x: float, y: float, side: float = 1, backwards: bool = False
) -> list[tuple[float, float]]:
    ring = [(x, y), (x, y + side), (x + side, y + side), (x + side, y), (x, y)]
    return ring[::-1] if backwards else ring


def single_pixel(x: float, y: float) -> Rings:
    return [(square(x, y), False)]


def with_hole(x: float, y: float) -> Rings:
    return [(square(x, y, 5), False), (square(x + 1, y + 1, 2, True), True)]


def two_pieces(x: float, y: float) -> Rings:
    """The first piece has a hole, the second turns the other way."""
    second = square(x + 7, y, 2, True)
    return [(square(x, y, 5), False), (square(x + 1, y + 1, 2), True), (second, False)]


SHAPES = (single_pixel, with_hole, two_pieces)


def outlines(cells: Sequence[Rings]) -> Outlines:
    rings = [ring for cell in cells for ring in cell]
    points = [point for points, _ in rings for point in points]
    return Outlines(
        np.array(points, np.float32).reshape(-1, 2),
        np.cumsum([0] + [len(points) for points, _ in rings]),
        np.cumsum([0] + [len(cell) for cell in cells]),
        np.array([hole for _, hole in rings], bool),
    )


def polygons(n: int, corners: int, rng: np.random.Generator) -> Outlines:
    """One ring each with whole coordinates, of a tissue of some 10 000 px."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 8
    points = np.rint(rng.uniform(20, 9980, (n, 1, 2)) + ring)
    points = np.concatenate([points, points[:, :1]], axis=1).reshape(-1, 2)
    ends = np.arange(n + 1)
    return Outlines(points.astype(np.float32), ends * (corners + 1), ends, np.zeros(n, bool))


def cells(
    n: int, schema: CellSchema = SCHEMA, first: int = 1, corners: int = 0, seed: int = 0
) -> CellTable:
    """A part with ids from `first`, every third id left out; shapes in turn, or with so many corners."""
    rng = np.random.default_rng(seed + first)
    ids = first + np.arange(n, dtype=np.int64) + np.arange(n) // 2
    place = rng.uniform(0, 1000, (n, 2)).astype(np.float32)
    shapes = [SHAPES[i % 3](20 * i, 30 + i % 7) for i in range(0 if corners else n)]
    return CellTable(
        {"id": ids}
        | dict(_places(place, schema.mpp))
        | dict(_types(n, schema, rng))
        | dict(_intensities(n, schema, rng)),
        polygons(n, corners, rng) if corners else outlines(shapes),
        rng.normal(size=(n, schema.embedding_width)).astype(np.float32)
        if schema.embedding_width
        else None,
    )


def _places(place: np.ndarray, mpp: float | None) -> Iterator[tuple[str, np.ndarray]]:
    corners = np.hstack([place - 3, place + 3]).astype(np.int32)
    area = (20 + np.arange(len(place)) % 50).astype(np.int32)
    sides = ("left", "top", "right", "bottom")
    yield from zip(("x_px", "y_px"), place.T, strict=True)
    if mpp:
        yield from zip(("x_um", "y_um"), place.T * np.float32(mpp), strict=True)
    yield from ((f"{side}_px", corners[:, i]) for i, side in enumerate(sides))
    if mpp:
        yield from ((f"{side}_um", corners[:, i] * mpp) for i, side in enumerate(sides))
    yield "area_px", area
    if mpp:
        yield "area_um2", area * mpp**2
    yield "perimeter_px", np.sqrt(area) * 4
    if mpp:
        yield "perimeter_um", np.sqrt(area) * 4 * mpp
    yield "eccentricity", (area % 10 / 10).astype(np.float32)
    yield "at_edge", area % 3 == 0
    yield "contact", (area % 4 / 4).astype(np.float32)


def _types(
    n: int, schema: CellSchema, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Types in turn; the last of them is one that the schema does not know."""
    known = [id for id, _, _ in schema.types]
    ids = np.array([*known, 99])[np.arange(n) % (len(known) + 1)]
    probs = rng.dirichlet(np.ones(len(known)), n).astype(np.float32).reshape(n, len(known))
    yield "type", ids
    yield "type_name", np.array([schema.type_name(int(id)) for id in ids], object)
    yield "type_prob", probs.max(axis=1) if n else np.zeros(0, np.float32)
    yield from ((f"prob_{t[1]}", probs[:, i]) for i, t in enumerate(schema.types))


def _intensities(
    n: int, schema: CellSchema, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    for kind in ("mean", "median", "ring_mean", "ring_median"):
        for channel in schema.channels:
            values = rng.gamma(2, 300, n).astype(np.float32)
            if kind.startswith("ring"):
                values[::4] = np.nan
            yield f"{kind}_{channel}", values
    for stain in ("hematoxylin", "eosin", "residual"):
        yield f"od_{stain}", rng.normal(0.3, 0.1, n).astype(np.float32)
