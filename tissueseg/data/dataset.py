"""Tiles of many tissues as one dataset: each item is read from the store when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from tissueseg.contracts import Batch
from tissueseg.data.augment import Augmentation
from tissueseg.data.images import TileImages
from tissueseg.data.masks import Masks, TileMasks
from tissueseg.data.normalise import Normaliser
from tissueseg.data.targets import Targets
from tissueseg.data.tiles import Tile, TileGrid
from tissueseg.data.views import View, Views
from tissueseg.errors import SplitError
from tissueseg.store.tissues import TissueStore

PLAIN = Views()
"""Tiles as they stand, and nothing else."""


class Pick(NamedTuple):
    """What a sampler may ask for instead of an item: one of its views, and what is drawn for it."""

    item: int
    view: int
    draw: int = 0  # 63 bits, from which everything random about it follows


class TileDataset(Dataset[Batch]):
    """Normalised tiles with their classes, labels and targets.

    Beyond a tissue's edge images are mirrored and classes are IGNORE, and so it is where an augmentation
    takes pixels from beyond what was read.

    Args:
        store: where tiles are read from.
        tissues: names; `Batch.tissue` indexes into them.
        normaliser: fitted on the training tissues.
        targets: of the decoder's heads.
        tile_px: side of a tile.
        edge: edge policy of `TileGrid`.
        owned_only: hide classes and labels that another tile owns, so that every pixel counts once.
        halo_px: how far images reach beyond the tile on each side, for the encoder's sake.
        views: which copies of a tile there are; item `i` is its view 0, `Pick(i, view)` any of them.
        augmentation: how a `Pick` is altered beyond its view, a function of its draw; an item asked for
            by its number alone stays as it is.

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
        views: Views = PLAIN,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.tissues, self.views = tuple(tissues), views
        if owned_only and augmentation:
            raise ValueError("tiles that are altered own no pixels: owned_only is for scoring")
        self._augmentation, self._halo_px = augmentation, halo_px
        self._masks = TileMasks(store, targets, tile_px, owned_only)
        store.check_arrays(tissues, normaliser.modality)
        entries = [store.entry(tissue) for tissue in tissues]
        self._grids = [TileGrid(e.height, e.width, tile_px, edge) for e in entries]
        self._ends = np.cumsum([len(grid) for grid in self._grids])
        self._images = TileImages(store, tissues, normaliser, tile_px, halo_px)
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

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where every item lies: (n,) tissue indices, and (n, 2) rows and columns of first pixels."""
        tissues = np.repeat(np.arange(len(self._grids)), np.diff(self._ends, prepend=0))
        corners = [
            np.stack(np.meshgrid(*grid.starts, indexing="ij"), -1).reshape(-1, 2)
            for grid in self._grids
        ]
        return tissues, np.concatenate(corners)

    def __getitem__(self, index: int | Pick) -> Batch:
        pick = index if isinstance(index, Pick) else Pick(index, 0)
        tissue, tile = self.tile(pick.item)
        name, origin = self.tissues[tissue], (tile.rows.start, tile.columns.start)
        view = self.views.view(pick.view, name, origin)
        if self._augmentation and isinstance(index, Pick):
            image, present, masks = self._altered(name, tile, view, pick.draw)
        else:
            image, present = self._images.read(name, origin, view)
            masks = self._masks.read(name, tile, view)
        return Batch(
            torch.from_numpy(image),
            torch.from_numpy(present),
            torch.from_numpy(masks.classes.astype(np.int64)),
            torch.from_numpy(masks.labels),
            {head: torch.from_numpy(made) for head, made in masks.targets.items()},
            torch.tensor(tissue),
            torch.tensor(origin),
            torch.tensor(pick.view),
        )

    def _altered(
        self, name: str, tile: Tile, view: View, draw: int
    ) -> tuple[np.ndarray, np.ndarray, Masks]:
        """A view as one draw of the augmentation alters it."""
        augmentation, origin = self._augmentation, (tile.rows.start, tile.columns.start)
        assert augmentation is not None
        image, present = self._images.altered(name, origin, view, augmentation, draw)
        if not augmentation.moves:
            return _turned(view, image), present, self._masks.read(name, tile, view)
        planes = self._masks.wide(name, origin, self._halo_px + augmentation.margin_px)
        image, planes = augmentation.moved(image, planes, draw)
        seen = _turned(view, _cropped(planes, self._halo_px))
        return _turned(view, image), present, self._masks.of(seen)


def _cropped(planes: np.ndarray, beyond: int) -> np.ndarray:
    """(..., H, W) without `beyond` pixels on each side."""
    height, width = planes.shape[-2:]
    return planes[..., beyond : height - beyond, beyond : width - beyond]


def _turned(view: View, planes: np.ndarray) -> np.ndarray:
    """As a view shows them, in memory of their own."""
    return np.ascontiguousarray(view.turned(planes))


def collate(items: Sequence[Batch]) -> Batch:
    """Stack items into one batch."""
    targets = {head: torch.stack([i.targets[head] for i in items]) for head in items[0].targets}
    stacked = {
        name: torch.stack([getattr(item, name) for item in items])
        for name in ("image", "present", "classes", "labels", "tissue", "origin", "view")
    }
    return Batch(targets=targets, **stacked)
