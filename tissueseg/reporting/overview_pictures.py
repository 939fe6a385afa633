"""Pictures of a predicted tissue: whole, shrunk window by window, and as it is where it is densest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zarr
from PIL import Image

from tissueseg.contracts import TissueClass
from tissueseg.drawing import CHANNEL_COLORS, Legend, grey, outlined_in_colors, sheet
from tissueseg.inspection.sp_picture import shown_channels, sp_picture
from tissueseg.inspection.thumbnails import Thumbnail
from tissueseg.reporting.tissue_summary import CellCounts
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore

SIDE_PX = 1600  # longer side of the whole tissue's picture
TITLES = {"he": "H&E", "sp": "SP"}


@dataclass(frozen=True)
class CellView:
    """A tissue and its cells, as they are drawn."""

    store: TissueStore
    tissue: str
    labels: Sequence[zarr.Array]  # (H, W) ids of cells, full size first, then halved; one will do
    types_of_ids: np.ndarray  # (highest id + 1,) class ids
    types: Sequence[TissueClass]  # their colours

    @property
    def kind(self) -> str:
        """The image that is shown: H&E where there is one."""
        return "he" if "he" in self.store.images else "sp"

    @property
    def channels(self) -> Sequence[int]:
        """Of that image, those that are shown."""
        return range(3) if self.kind == "he" else shown_channels(self.store, [self.tissue])


@dataclass(frozen=True)
class Pair:
    """The same place twice, (H, W, 3) uint8."""

    window: Window  # in the tissue
    plain: np.ndarray
    cells: np.ndarray  # with rims in the colours of the cells' types


def whole_tissue(view: CellView, side_px: int = SIDE_PX) -> Pair:
    """A tissue whose longer side becomes `side_px`; smaller ones as they are.

    Pixels are averaged, labels are sampled, and rims drawn on the samples: cells that are only a few
    pixels wide become spots of their colour. Memory holds a window of the store and a level of labels
    that is less than twice as long as the picture.
    """
    entry = view.store.entry(view.tissue)
    shape = (entry.height, entry.width)
    small = Thumbnail(shape, view.channels, side_px)
    for window in view.store.windows(view.tissue):
        small.add(window, view.store.read(view.tissue, view.kind, window))
    plain = _picture(view, small.image())
    height, width = plain.shape[:2]
    labels = sampled(view.labels, (height, width))
    under = (
        plain if (height, width) == shape else grey(plain).astype(np.uint8)
    )  # spots are lost among colours
    return Pair(Window(0, 0, *shape), plain, _with_rims(view, under, labels))


def crop(view: CellView, window: Window) -> Pair:
    """A place at full resolution."""
    y, x, height, width = window
    pixels = view.store.read(view.tissue, view.kind, window)[list(view.channels)]
    plain = _picture(view, pixels)
    labels = np.asarray(view.labels[0][y : y + height, x : x + width])
    return Pair(window, plain, _with_rims(view, plain, labels))


def sampled(levels: Sequence[zarr.Array], shape: tuple[int, int]) -> np.ndarray:
    """Labels at the middle of every pixel of a smaller picture of the same tissue.

    Args:
        levels: (H, W), then every second pixel of the one before.
        shape: height and width of the picture.

    Returns:
        (height, width), from the smallest level that has them all.
    """
    full = levels[0].shape
    fitting = [k for k, level in enumerate(levels) if min(np.subtract(level.shape, shape)) >= 0]
    level = fitting[-1]
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * whole / n).astype(np.int64) >> level, side - 1)
        for n, whole, side in zip(shape, full, levels[level].shape, strict=True)
    )
    return _picked(levels[level], rows, columns)


def preview(view: CellView, pair: Pair, counts: CellCounts) -> Image.Image:
    """Both pictures side by side, with the cells of every type below."""
    legend: Legend = [
        (f"{t.name} ({t.cells:,})", TissueClass(0, t.name, t.color).rgb) for t in counts.types
    ]
    if view.kind == "sp":
        names = (view.store.panel[i].name for i in view.channels)
        legend = [*legend, *zip(names, CHANNEL_COLORS.values(), strict=False)]
    return sheet({TITLES[view.kind]: pair.plain, "cells": pair.cells}, legend)


def _picked(level: zarr.Array, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some rows and columns, read in strips, for one level may be all there is."""
    strip = level.chunks[0] if level.shards is None else level.shards[0]
    parts = []
    for top in range(0, level.shape[0], strip):
        inside = rows[(rows >= top) & (rows < top + strip)] - top
        if inside.size:
            parts.append(np.asarray(level[top : top + strip])[np.ix_(inside, columns)])
    return np.concatenate(parts)


def _picture(view: CellView, planes: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of the channels that are shown, (C, H, W)."""
    if view.kind == "he":
        return np.ascontiguousarray(planes.transpose(1, 2, 0).round().astype(np.uint8))
    return sp_picture(view.store, view.tissue, planes, view.channels)


def _with_rims(view: CellView, plain: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return outlined_in_colors(plain, labels, view.types_of_ids[labels], view.types)
