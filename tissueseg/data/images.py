"""What networks see of a tile: its channels, normalised, with a halo, in one of its views.

One way for all: training reads tiles through it, and so does the encoding of features that are stored.
What training alters beyond views comes on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tissueseg.data.augment import Augmentation
from tissueseg.data.normalise import Normaliser
from tissueseg.data.views import View
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore


class Region(NamedTuple):
    """Images of part of a tissue as they are stored, read once, from which many tiles are cut."""

    tissue: str
    start: tuple[int, int]  # row and column of its first pixel, which may lie beyond the tissue
    raw: dict[str, np.ndarray]  # image -> (C, H, W), mirrored beyond the tissue's edge


class TileImages:
    """Reads tiles of a store's tissues; images are mirrored beyond a tissue's edge.

    Args:
        store: where they are read from.
        tissues: names of those that will be read.
        normaliser: fitted on the training tissues.
        tile_px: side of a tile.
        halo_px: how far images reach beyond the tile on each side, for the encoder's sake.
    """

    def __init__(
        self,
        store: TissueStore,
        tissues: Sequence[str],
        normaliser: Normaliser,
        tile_px: int,
        halo_px: int = 0,
    ) -> None:
        self._store, self._normaliser = store, normaliser
        self._halo_px, self._side_px = halo_px, tile_px + 2 * halo_px
        self._clips = {tissue: normaliser.clips(store, tissue) for tissue in tissues}

    def read(
        self, tissue: str, origin: tuple[int, int], view: View
    ) -> tuple[np.ndarray, np.ndarray]:
        """One view of a tile.

        Args:
            tissue: its name.
            origin: row and column of the tile's first pixel.
            view: which copy of the tile.

        Returns:
            (C, H, W) float32, and (C,) bool: channels with signal. H&E comes first.
        """
        return next(self.views(tissue, origin, [view]))

    def views(
        self, tissue: str, origin: tuple[int, int], views: Sequence[View]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Several views of a tile, which is read once; as `read` returns them."""
        kinds = self._normaliser.modality.images
        raw = {kind: self._mirrored(tissue, kind, origin) for kind in kinds}
        whole = [self._scaled(tissue, kind, pixels) for kind, pixels in raw.items()]
        for view in views:
            parts = [
                self._altered(view, tissue, kind, raw[kind], scaled)
                for kind, scaled in zip(kinds, whole, strict=True)
            ]
            image, present = (
                parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
            )
            yield view.turned(image), present

    def region(self, tissue: str, start: tuple[int, int], size: tuple[int, int]) -> Region:
        """Read what tiles between `start` and `start` + `size` (rows, columns) are cut from.

        The halo around them comes with it.
        """
        reach = self._halo_px
        corner = start[0] - reach, start[1] - reach
        whole = size[0] + 2 * reach, size[1] + 2 * reach
        kinds = self._normaliser.modality.images
        raw = {kind: read_mirrored(self._store, tissue, kind, corner, whole) for kind in kinds}
        return Region(tissue, corner, raw)

    def cut(self, region: Region, origin: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The tile at `origin` (row and column in the tissue), as `read` returns its first view."""
        y, x = (at - self._halo_px - first for at, first in zip(origin, region.start, strict=True))
        parts = []
        for kind, raw in region.raw.items():
            tile = raw[:, y : y + self._side_px, x : x + self._side_px]
            present = ~np.isnan(self._clips[region.tissue]) if kind == "sp" else np.ones(3, bool)
            parts.append((self._scaled(region.tissue, kind, tile), present))
        image, present = map(np.concatenate, zip(*parts, strict=True))
        return image, present

    def altered(
        self,
        tissue: str,
        origin: tuple[int, int],
        view: View,
        augmentation: Augmentation,
        draw: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """A view of a tile as one draw of an augmentation alters it, before anything moves or turns.

        Returns:
            (C, H, W) float32, with the augmentation's margin around tile and halo, and (C,) bool.
        """
        margin_px = augmentation.margin_px
        parts = []
        for kind in self._normaliser.modality.images:
            raw = self._mirrored(tissue, kind, origin, margin_px)
            if kind == "he":
                image = self._normaliser.he(augmentation.he(view.stained(raw), draw))
                parts.append((image, np.ones(len(raw), bool)))
            else:
                parts.append(self._altered_sp(raw, self._clips[tissue], view, augmentation, draw))
        image, present = map(np.concatenate, zip(*parts, strict=True))
        return image, present

    def _altered_sp(
        self, raw: np.ndarray, clips: np.ndarray, view: View, augmentation: Augmentation, draw: int
    ) -> tuple[np.ndarray, np.ndarray]:
        image = self._normaliser.sp(augmentation.sp_raw(raw, clips, draw), clips)
        kept = view.kept(~np.isnan(clips))
        image[~kept] = 0
        return image, augmentation.sp_scaled(image, kept, draw)

    def _scaled(self, tissue: str, kind: str, raw: np.ndarray) -> np.ndarray:
        if kind == "he":
            return self._normaliser.he(raw)
        return self._normaliser.sp(raw, self._clips[tissue])

    def _altered(
        self, view: View, tissue: str, kind: str, raw: np.ndarray, scaled: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image as a view shows it, before it is turned, and which channels it has."""
        if kind == "he":
            stained = view.stained(raw)
            image = scaled if stained is raw else self._normaliser.he(stained)
            return image, np.ones(len(raw), bool)
        present = ~np.isnan(self._clips[tissue])
        kept = view.kept(present)
        if not np.array_equal(kept, present):
            scaled = scaled.copy()
            scaled[~kept] = 0
        return scaled, kept

    def _mirrored(
        self, tissue: str, array: str, origin: tuple[int, int], margin_px: int = 0
    ) -> np.ndarray:
        reach = self._halo_px + margin_px
        start = origin[0] - reach, origin[1] - reach
        side = self._side_px + 2 * margin_px
        return read_mirrored(self._store, tissue, array, start, (side, side))


def read_mirrored(
    store: TissueStore, tissue: str, array: str, start: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Read (..., *size) pixels at `start`, any row and column; a tissue's edges are mirrors."""
    entry = store.entry(tissue)
    rows, columns = (
        _mirror(start[0], size[0], entry.height),
        _mirror(start[1], size[1], entry.width),
    )
    y, x = int(rows.min()), int(columns.min())
    window = Window(y, x, int(rows.max()) + 1 - y, int(columns.max()) + 1 - x)
    part = store.read(tissue, array, window)
    if part.shape[-2:] == size:  # inside the tissue
        return part
    return part[..., (rows - y)[:, None], columns - x]


def _mirror(start: int, side: int, length: int) -> np.ndarray:
    """Pixels of a tissue that stand for `start` … `start + side`; its edges are mirrors."""
    folded = np.arange(start, start + side) % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)
