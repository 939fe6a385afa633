"""Tiles of many tissues as one dataset: each item is read from the store when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from tissueseg.contracts import IGNORE, Batch
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.targets import Targets
from tissueseg.data.tiles import Tile, TileGrid
from tissueseg.data.views import View, Views
from tissueseg.errors import SplitError
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore

PLAIN = Views()
"""Tiles as they stand, and nothing else."""


class Pick(NamedTuple):
    """What a sampler may ask for instead of an item: one of its views."""

    item: int
    view: int


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
        views: which copies of a tile there are; item `i` is its view 0, `Pick(i, view)` any of them.

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
    ) -> None:
        self.tissues, self.views = tuple(tissues), views
        self._store, self._targets = store, targets
        self._tile_px, self._owned_only = tile_px, owned_only
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
        item, number = index if isinstance(index, Pick) else (index, 0)
        tissue, tile = self.tile(item)
        name, origin = self.tissues[tissue], (tile.rows.start, tile.columns.start)
        view = self.views.view(number, name, origin)
        image, present = self._images.read(name, origin, view)
        labels, classes = (self._read(name, array, tile) for array in (INSTANCES, CLASSES))
        if self._owned_only:
            shown = _keep_owned(classes, tile, IGNORE), _keep_owned(labels, tile, 0)
        else:
            shown = classes, labels
        seen = [view.turned(self._filled(p, f)) for p, f in zip(shown, (IGNORE, 0), strict=True)]
        targets = self._targets_of(labels, classes, view)
        return Batch(
            torch.from_numpy(image),
            torch.from_numpy(present),
            torch.from_numpy(seen[0].astype(np.int64)),
            torch.from_numpy(seen[1]),
            {head: torch.from_numpy(made) for head, made in targets.items()},
            torch.tensor(tissue),
            torch.tensor(origin),
            torch.tensor(number),
        )

    def _targets_of(
        self, labels: np.ndarray, classes: np.ndarray, view: View
    ) -> dict[str, np.ndarray]:
        """Of the turned labels, not turned themselves: directions in them would be wrong.

        Made of what lies inside the tissue; beyond it they are 0, which would be background in labels.
        """
        made = self._targets(view.turned(labels), view.turned(classes))
        inside = view.turned(self._filled(np.ones(labels.shape, bool), 0))
        return made if inside.all() else {head: _placed(t, inside) for head, t in made.items()}

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


def _placed(target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """A target (c, h, w) where a tile shows tissue, 0 elsewhere."""
    whole = np.zeros((len(target), *inside.shape), target.dtype)
    whole[:, inside] = target.reshape(len(target), -1)
    return whole


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
        for name in ("image", "present", "classes", "labels", "tissue", "origin", "view")
    }
    return Batch(targets=targets, **stacked)
