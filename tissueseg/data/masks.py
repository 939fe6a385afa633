"""What a tile teaches: its labels and classes, and the targets made of them.

Beyond a tissue's edge labels are 0 and classes IGNORE. Where tiles are moved by less simple ways than
their views, a plane that is 1 inside the tissue moves along: it is 0 where pixels come from beyond the
edge, or from beyond what was read. Images are mirrored there; masks never are, for nuclei would be
mirrored with their ids.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.data.targets import Targets
from tissueseg.data.tiles import Tile
from tissueseg.data.views import View
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore


class Masks(NamedTuple):
    """Of one tile, as one of its views shows it."""

    labels: np.ndarray  # (H, W) int32
    classes: np.ndarray  # (H, W) int, IGNORE where nothing is counted
    targets: dict[str, np.ndarray]  # head -> (c, H, W) float32; NaN: not known


class TileMasks:
    """Reads the masks of a store's tiles.

    Args:
        store: where they are read from.
        targets: of the decoder's heads.
        tile_px: side of a tile.
        owned_only: hide classes and labels that another tile owns; targets see them all the same.
    """

    def __init__(
        self, store: TissueStore, targets: Targets, tile_px: int, owned_only: bool = False
    ) -> None:
        self._store, self._targets = store, targets
        self._tile_px, self._owned_only = tile_px, owned_only

    def read(self, tissue: str, tile: Tile, view: View) -> Masks:
        """The masks of a tile as a view shows it."""
        labels, classes = (self._inside(tissue, array, tile) for array in (INSTANCES, CLASSES))
        shown = [labels, classes]
        if self._owned_only:
            shown = [_keep_owned(labels, tile, 0), _keep_owned(classes, tile, IGNORE)]
        seen = [view.turned(self._filled(p, f)) for p, f in zip(shown, (0, IGNORE), strict=True)]
        return Masks(seen[0], seen[1], self._targets_of(labels, classes, view))

    def wide(self, tissue: str, origin: tuple[int, int], reach_px: int) -> np.ndarray:
        """Labels, classes, and 1 inside the tissue: (3, H, W) int32, `reach_px` beyond a tile's sides.

        Beyond the tissue all are 0.
        """
        entry, side = self._store.entry(tissue), self._tile_px + 2 * reach_px
        y, x = origin[0] - reach_px, origin[1] - reach_px
        top, left = max(y, 0), max(x, 0)
        height, width = min(y + side, entry.height) - top, min(x + side, entry.width) - left
        planes = np.zeros((3, side, side), np.int32)
        part = planes[:, top - y : top - y + height, left - x : left - x + width]
        for plane, array in zip(part, (INSTANCES, CLASSES), strict=False):
            plane[...] = self._store.read(tissue, array, Window(top, left, height, width))
        part[2] = 1
        return planes

    def of(self, planes: np.ndarray) -> Masks:
        """Masks of what came of `wide`: (3, tile_px, tile_px), moved, cropped and turned.

        Targets are made of what lies inside the tissue, 0 beyond. Where the tissue's edge runs askew
        and what they are differs with what lies beyond it, they are not known.
        """
        labels, inside = planes[0], planes[2] > 0
        classes = np.where(inside, planes[1], IGNORE)
        if not inside.any():
            empty = self._targets(labels, classes)
            return Masks(labels, classes, {h: np.zeros_like(target) for h, target in empty.items()})
        box = _box_of(inside)
        made = self._targets(labels[box], classes[box])
        if not inside[box].all():
            nearest = _nearest(inside[box])
            other = self._targets(*(np.take(plane[box], nearest) for plane in planes[:2]))
            made = {head: _agreed(target, other[head]) for head, target in made.items()}
        whole = {head: np.zeros((len(t), *inside.shape), t.dtype) for head, t in made.items()}
        for head, target in made.items():
            whole[head][..., *box] = np.where(inside[box], target, 0)
        return Masks(labels, classes, whole)

    def _targets_of(
        self, labels: np.ndarray, classes: np.ndarray, view: View
    ) -> dict[str, np.ndarray]:
        """Of the turned labels, not turned themselves: directions in them would be wrong.

        Made of what lies inside the tissue; beyond it they are 0, which would be background in labels.
        """
        made = self._targets(view.turned(labels), view.turned(classes))
        inside = view.turned(self._filled(np.ones(labels.shape, bool), 0))
        return made if inside.all() else {head: _placed(t, inside) for head, t in made.items()}

    def _inside(self, tissue: str, array: str, tile: Tile) -> np.ndarray:
        """The part of a tile that lies inside the tissue."""
        entry = self._store.entry(tissue)
        y, x = tile.rows.start, tile.columns.start
        height, width = min(self._tile_px, entry.height - y), min(self._tile_px, entry.width - x)
        return self._store.read(tissue, array, Window(y, x, height, width))

    def _filled(self, part: np.ndarray, fill: int) -> np.ndarray:
        """A whole tile, `fill` beyond the tissue."""
        leading = [(0, 0)] * (part.ndim - 2)
        beyond = [*leading, *((0, self._tile_px - length) for length in part.shape[-2:])]
        return np.pad(part, beyond, constant_values=fill)


def _placed(target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """A target (c, h, w) where a tile shows tissue, 0 elsewhere."""
    whole = np.zeros((len(target), *inside.shape), target.dtype)
    whole[:, inside] = target.reshape(len(target), -1)
    return whole


def _agreed(target: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A target (c, h, w) where another is the same, NaN elsewhere."""
    same = (target == other) | (np.isnan(target) & np.isnan(other))
    return np.where(same, target, np.float32(np.nan))


def _nearest(inside: np.ndarray) -> np.ndarray:
    """(H, W) flat index of the nearest pixel inside a mask, which is not empty; inside, the pixel's own.

    What lies there, carried on, is one of the things that may lie beyond an edge.
    """
    beyond, pixels = (~inside).astype(np.uint8), np.flatnonzero(inside)
    _, owners = cv2.distanceTransformWithLabels(
        beyond, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = owners.astype(np.intp)  # numbers of pixels inside, from 1
    found = np.zeros(len(pixels) + 1, np.intp)
    found[owner[inside]] = pixels
    return found[owner]


def _box_of(inside: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold all of a (H, W) mask, which is not empty."""
    found = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    rows, columns = (slice(int(at[0]), int(at[-1]) + 1) for at in found)
    return rows, columns


def _keep_owned(plane: np.ndarray, tile: Tile, fill: int) -> np.ndarray:
    kept = np.full_like(plane, fill)
    spans = (slice(s.own_start - s.start, s.own_stop - s.start) for s in (tile.rows, tile.columns))
    owned = tuple(spans)
    kept[owned] = plane[owned]
    return kept
