"""The table of a window's cells: where they lie, what shape, type and intensities they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.instances.cell_types import type_probs
from tissueseg.instances.intensity import intensities
from tissueseg.instances.outlines import trace
from tissueseg.instances.pixels import Numbered, Pixels, Runs, cut, number, spread
from tissueseg.instances.pooling import Tokens, pooled
from tissueseg.instances.rims import Rims, rims
from tissueseg.instances.rings import rings
from tissueseg.instances.shape import contacts, extent, moments, perimeters
from tissueseg.instances.stains import stain_densities

_Columns = Iterator[tuple[str, np.ndarray]]


class CellWindow(NamedTuple):
    """A part of a tissue that shows some cells wholly, with a margin as wide as their rings."""

    labels: np.ndarray  # (H, W) ids of all cells in it, any integer type, 0 background
    own: np.ndarray  # (n,) ids to measure; the others only count as neighbours
    box: Box  # where it lies in the tissue
    shape: tuple[int, int]  # height and width of the tissue
    classes: np.ndarray | None = None  # (C, H, W) probabilities, background first
    he: np.ndarray | None = None  # (3, H, W) uint8
    sp: np.ndarray | None = None  # (channels, H, W) of any real type
    features: np.ndarray | None = None  # (D, h, w) float32 tokens
    stride_px: int = 1  # pixels per token
    features_origin: tuple[int, int] = (
        0,
        0,
    )  # row and column of the first token in the tissue's grid


class _Seen(NamedTuple):
    """What is found out of a window's labels."""

    numbered: Numbered
    runs: Runs
    pixels: Pixels
    rims: Rims

    @property
    def count(self) -> int:
        return len(self.numbered.ids)


def measure(
    window: CellWindow,
    schema: CellSchema,
    *,
    typing: str = "mean",
    ring_um: float = 2.0,
    ring_px: float = 4.0,
) -> CellTable:
    """Measure cells.

    Cells are measured as the window shows them: what lies beyond it counts as background. Columns are
    those of `COLUMNS`; those in µm want `schema.mpp`, those of images, channels and types the image.
    Without `classes` every cell is of the first type, with probability 1. Of SP values that are not
    finite none is counted.

    Args:
        window: that shows the cells.
        schema: what columns mean.
        typing: "mean" or "majority", as in `type_probs`.
        ring_um: how far rings reach from the nucleus, between pixel centres; at least one pixel.
        ring_px: likewise where the scale is not known.

    Returns:
        The cells of `window.own` in order of their ids, with outlines, and with embeddings if the window
        has features. Coordinates and areas are float64 or int32, all other numbers float32.

    Raises:
        TissueDataError: images that do not fit the labels or the schema, ids that have no pixel.
        ConfigError: a typing that is not known.
    """
    if typing not in ("mean", "majority"):
        raise ConfigError(f"typing={typing!r} cannot be used: choose mean or majority.")
    _check(window, schema)
    numbered = number(window.labels, window.own)
    runs = cut(numbered.image, numbered.row)
    seen = _Seen(numbered, runs, spread(runs, len(numbered.ids)), rims(numbered))
    radius_px = max(ring_um / schema.mpp if schema.mpp else ring_px, 1.0)
    columns = dict(_places(seen, window, schema.mpp))
    columns |= dict(_types(seen, window, schema, typing))
    columns |= dict(_intensities(seen, window, schema, radius_px))
    columns |= dict(_stains(seen, window))
    return CellTable(columns, trace(seen.rims, window.box), _embedding(seen, window))


def _places(seen: _Seen, window: CellWindow, mpp: float | None) -> _Columns:
    box, width = window.box, window.labels.shape[1]
    around = extent(seen.runs, width, seen.count)
    found = moments(seen.runs, around, width)
    offset = {"left": box.x, "top": box.y, "right": box.x, "bottom": box.y}
    sides = {name: getattr(around, name) + at for name, at in offset.items()}
    centre = {"x": found.x + box.x, "y": found.y + box.y}
    length = perimeters(seen.rims)
    yield "id", seen.numbered.ids
    yield from _scaled(centre, mpp, np.float64)
    yield from _scaled(sides, mpp, np.int32)
    yield "area_px", found.area.astype(np.int32)
    if mpp:
        yield "area_um2", found.area * mpp**2
    yield from _scaled({"perimeter": length}, mpp, np.float64)
    yield "eccentricity", found.eccentricity.astype(np.float32)
    height, width = window.shape
    begins = (sides["left"] <= 0) | (sides["top"] <= 0)
    yield "at_edge", begins | (sides["right"] >= width) | (sides["bottom"] >= height)
    yield "contact", contacts(seen.rims).astype(np.float32)


def _scaled(fields: dict[str, np.ndarray], mpp: float | None, kind: type) -> _Columns:
    """All in pixels, then all in µm where the scale is known."""
    yield from ((f"{name}_px", values.astype(kind)) for name, values in fields.items())
    if mpp:
        yield from ((f"{name}_um", values * mpp) for name, values in fields.items())


def _types(seen: _Seen, window: CellWindow, schema: CellSchema, typing: str) -> _Columns:
    ids = [id for id, _, _ in schema.types] or [1]
    names = np.array([schema.type_name(id) for id in ids], object)
    probs = np.eye(1, len(ids)).repeat(seen.count, axis=0)
    if window.classes is not None:
        probs = type_probs(window.classes, seen.pixels, ids, typing)
    best = probs.argmax(axis=1)
    yield "type", np.array(ids, np.int64)[best]
    yield "type_name", names[best]
    yield "type_prob", probs.max(axis=1).astype(np.float32)
    if window.classes is not None:
        yield from (
            (f"prob_{n}", p.astype(np.float32)) for n, p in zip(names, probs.T, strict=True)
        )


def _intensities(seen: _Seen, window: CellWindow, schema: CellSchema, radius_px: float) -> _Columns:
    if window.sp is None:
        return
    around = rings(seen.numbered.image, radius_px)
    ring = spread(cut(around, seen.numbered.row), seen.count)
    for prefix, pixels in (("", seen.pixels), ("ring_", ring)):
        for kind, found in intensities(window.sp, pixels)._asdict().items():
            for channel, values in zip(schema.channels, found, strict=True):
                yield f"{prefix}{kind}_{channel}", values


def _stains(seen: _Seen, window: CellWindow) -> _Columns:
    if window.he is not None:
        densities = stain_densities(window.he, seen.pixels).astype(np.float32).T
        names = ("od_hematoxylin", "od_eosin", "od_residual")
        yield from zip(names, densities, strict=True)


def _embedding(seen: _Seen, window: CellWindow) -> np.ndarray | None:
    if window.features is None:
        return None
    tokens = Tokens(window.features, window.stride_px, window.features_origin)
    return pooled(tokens, seen.pixels, window.box)


def _check(window: CellWindow, schema: CellSchema) -> None:
    """Whether images show what the labels show, with the channels the schema names."""
    size = (window.box.height, window.box.width)
    last = max((id for id, _, _ in schema.types), default=1)
    planes = len(schema.channels)
    for name, image, fits, said in (
        ("labels", window.labels, lambda c: c == (), "no channels"),
        (
            "classes",
            window.classes,
            lambda c: len(c) == 1 and c[0] > last,
            f"more than {last} classes",
        ),
        ("he", window.he, lambda c: c == (3,), "3 channels"),
        ("sp", window.sp, lambda c: c == (planes,), f"{planes} channels"),
    ):
        if image is not None and not (image.shape[-2:] == size and fits(image.shape[:-2])):
            raise TissueDataError(
                f"tissue={schema.tissue} has a window with {name} of shape {image.shape}, wanted {said} "
                f"of {size[0]} × {size[1]} pixels as in its box: cut all images to one window."
            )
    width = schema.embedding_width
    if window.features is not None and len(window.features) != width:
        raise TissueDataError(
            f"tissue={schema.tissue} has features of {len(window.features)} channels, wanted {width}: "
            "state the encoder's width as embedding_width of the schema."
        )
