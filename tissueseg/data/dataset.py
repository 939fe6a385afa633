"""Tiles of many tissues as one dataset: each item is read from the store when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from tissueseg.contracts import IGNORE, Batch
from tissueseg.data.normalise import Normaliser
from tissueseg.data.targets import Targets
from tissueseg.data.tiles import Tile, TileGrid
from tissueseg.errors import SplitError
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore


class TileDataset(Dataset[Batch]):
    """Normalised tiles with their classes, labels and targets.

    Beyond a tissue's edge images are mirrored and classes are IGNORE.

    Args:
        store: where tiles are read from.
        tissues: names; `Batch.tissue` indexes into them.
        normaliser: fitted on the training tissues.
        targets: of the decoder's heads.
        tile_px: side of a tile.
        edge: edge policy of `TileGrid`.
        owned_only: hide classes and labels that another tile owns, so that every pixel counts once.
        halo_px: how far images reach beyond the tile on each side, for the encoder's sake.

    Raises:
        SplitError: no tile fits into any tissue.
    """

    def __init__(
        self,
        store: TissueStore,
        tissues: Sequence[str],
        normaliser: Normaliser,
        targets: Targets,
        tile_px: int,
        edge: str,
        owned_only: bool = False,
        halo_px: int = 0,
    ) -> None:
        self.tissues = tuple(tissues)
        self._store, self._normaliser, self._targets = store, normaliser, targets
        self._tile_px, self._owned_only, self._halo_px = tile_px, owned_only, halo_px
        store.check_arrays(tissues, normaliser.modality)
        entries = [store.entry(tissue) for tissue in tissues]
        self._grids = [TileGrid(e.height, e.width, tile_px, edge) for e in entries]
        self._ends = np.cumsum([len(grid) for grid in self._grids])
        self._clips = {tissue: normaliser.clips(store, tissue) for tissue in tissues}
        self._present = {tissue: self._with_signal(clips) for tissue, clips in self._clips.items()}
        if not len(self):
            raise SplitError(
                f"no tile of {tile_px} px fits into {list(self.tissues)[:5]} with edge={edge}: choose a "
                "smaller data.tile_px or edge=pad."
            )

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def tile(self, index: int) -> tuple[int, Tile]:
        """Tissue index and tile of an item."""
        tissue = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[tissue - 1]) if tissue else 0
        return tissue, self._grids[tissue][index - before]

    def __getitem__(self, index: int) -> Batch:
        tissue, tile = self.tile(index)
        name = self.tissues[tissue]
        labels, classes = (self._read(name, array, tile) for array in (INSTANCES, CLASSES))
        targets = self._targets(labels, classes)  # before padding, whose 0 is no background
        if self._owned_only:
            classes, labels = _keep_owned(classes, tile, IGNORE), _keep_owned(labels, tile, 0)
        return Batch(
            torch.from_numpy(self._image(name, tile)),
            torch.from_numpy(self._present[name]),
            torch.from_numpy(self._filled(classes.astype(np.int64), IGNORE)),
            torch.from_numpy(self._filled(labels, 0)),
            {head: torch.from_numpy(self._filled(made, 0)) for head, made in targets.items()},
            torch.tensor(tissue),
            torch.tensor([tile.rows.start, tile.columns.start]),
        )

    def _image(self, tissue: str, tile: Tile) -> np.ndarray:
        """Normalised channels of a tile and its halo, mirrored where they reach beyond the tissue."""
        parts = []
        for kind in self._normaliser.modality.images:
            raw = self._mirrored(tissue, kind, tile)
            clips = self._clips[tissue]
            parts.append(
                self._normaliser.he(raw) if kind == "he" else self._normaliser.sp(raw, clips)
            )
        return np.concatenate(parts)

    def _mirrored(self, tissue: str, array: str, tile: Tile) -> np.ndarray:
        entry, side = self._store.entry(tissue), self._tile_px + 2 * self._halo_px
        rows = _mirror(tile.rows.start - self._halo_px, side, entry.height)
        columns = _mirror(tile.columns.start - self._halo_px, side, entry.width)
        y, x = int(rows.min()), int(columns.min())
        window = Window(y, x, int(rows.max()) + 1 - y, int(columns.max()) + 1 - x)
        part = self._store.read(tissue, array, window)
        if part.shape[-2:] == (side, side):  # inside the tissue
            return part
        return part[:, (rows - y)[:, None], columns - x]

    def _read(self, tissue: str, array: str, tile: Tile) -> np.ndarray:
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

    def _with_signal(self, clips: np.ndarray) -> np.ndarray:
        """(C,) bool over the image's channels, H&E first."""
        he = "he" in self._normaliser.modality.images
        return np.concatenate([np.ones(3 if he else 0, bool), ~np.isnan(clips)])


def _mirror(start: int, side: int, length: int) -> np.ndarray:
    """Pixels of a tissue that stand for `start` … `start + side`; its edges are mirrors."""
    folded = np.arange(start, start + side) % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def _keep_owned(plane: np.ndarray, tile: Tile, fill: int) -> np.ndarray:
    kept = np.full_like(plane, fill)
    spans = (slice(s.own_start - s.start, s.own_stop - s.start) for s in (tile.rows, tile.columns))
    owned = tuple(spans)
    kept[owned] = plane[owned]
    return kept


def collate(items: Sequence[Batch]) -> Batch:
    """Stack items into one batch."""
    targets = {head: torch.stack([i.targets[head] for i in items]) for head in items[0].targets}
    stacked = {
        name: torch.stack([getattr(item, name) for item in items])
        for name in ("image", "present", "classes", "labels", "tissue", "origin")
    }
    return Batch(targets=targets, **stacked)
