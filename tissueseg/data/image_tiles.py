"""Tiles of images without labels, of stores whose panels may differ, and what is hidden of them.

All are brought to the scale an encoder works at, so that a batch may mix stores. What is hidden of a tile
follows its own draw: it depends on no other tile, process or order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from tissueseg.data.dataset import PLAIN, Pick
from tissueseg.data.draws import drawn_bits
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.tiles import TileGrid
from tissueseg.data.views import Views
from tissueseg.errors import SplitError
from tissueseg.store.tissues import TissueStore

_SCORED = 2  # ends the key of what is hidden of tiles that are scored


class ImageBatch(NamedTuple):
    """Normalised tiles at the encoder's scale; channels a tile lacks stand at the end, absent."""

    image: Tensor  # (B, C, H, W) float32
    present: Tensor  # (B, C) bool
    markers: Tensor  # (B, C) int64, rows of the table of marker vectors; 0 where there are none
    hidden: Tensor  # (B, C or 1, N) bool, tokens hidden from the encoder
    decoded: Tensor  # (B, c) int64, channels to be filled in
    tissue: Tensor  # (B,) int64, counts over the tissues of all stores
    origin: Tensor  # (B, 2) int64, row and column in the tissue


class Hidden(NamedTuple):
    """What is hidden of one tile."""

    hidden: Tensor  # (C or 1, N) bool
    decoded: Tensor  # (c,) int64


Hide = Callable[[Tensor, Generator], Hidden]
"""Draws what is hidden of a tile, given which of its channels are present, (C,) bool."""


class Source(NamedTuple):
    """A store's part of the tiles."""

    store: TissueStore
    tissues: tuple[str, ...]
    normaliser: Normaliser
    channels: tuple[int, ...]  # of the image, in order, that are used
    markers: tuple[int, ...]  # row of each in the table of marker vectors
    read_px: int  # side of a tile in the store's pixels


class ImageTiles(Dataset[ImageBatch]):
    """Every tile of some tissues.

    Args:
        sources: stores with their tissues.
        tile_px: side of a tile at the encoder's scale.
        hide: draws what is hidden.
        views: copies of tiles that a `Pick` may ask for.
        seed: of what is hidden of an item that is asked for by its number alone.

    Raises:
        SplitError: there are no tiles.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        tile_px: int,
        hide: Hide,
        views: Views = PLAIN,
        seed: int = 0,
    ) -> None:
        self.sources, self.tile_px = tuple(sources), tile_px
        self._hide, self._views, self._seed = hide, views, seed
        self._images = [TileImages(s.store, s.tissues, s.normaliser, s.read_px) for s in sources]
        self._places = [(n, tissue) for n, s in enumerate(sources) for tissue in s.tissues]
        self._grids = [self._grid(*place) for place in self._places]
        self._ends = np.cumsum([len(grid) for grid in self._grids])
        if not len(self):
            raise SplitError(
                f"no tile of {tile_px} px fits into any tissue: choose a smaller data.tile_px."
            )

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def tissues(self) -> tuple[str, ...]:
        """Names that `ImageBatch.tissue` counts."""
        return tuple(tissue for _, tissue in self._places)

    def __getitem__(self, index: int | Pick) -> ImageBatch:
        pick = index if isinstance(index, Pick) else self._scored(index)
        tissue = int(np.searchsorted(self._ends, pick.item, side="right"))
        first = int(self._ends[tissue - 1]) if tissue else 0
        tile = self._grids[tissue][pick.item - first]
        origin = (tile.rows.start, tile.columns.start)
        number, name = self._places[tissue]
        source = self.sources[number]
        image, present = self._images[number].read(
            name, origin, self._views.view(pick.view, name, origin)
        )
        chosen = list(source.channels)
        present = torch.from_numpy(present[chosen])
        drawn = self._hide(present, Generator().manual_seed(pick.draw))
        return ImageBatch(
            self._scaled(torch.from_numpy(image[chosen])),
            present,
            torch.tensor(source.markers),
            *drawn,
            torch.tensor(tissue),
            torch.tensor(origin),
        )

    def _grid(self, number: int, tissue: str) -> TileGrid:
        source = self.sources[number]
        entry = source.store.entry(tissue)
        return TileGrid(entry.height, entry.width, source.read_px, "shift")

    def _scored(self, index: int) -> Pick:
        """An item with the draw that it always has."""
        bits = drawn_bits((self._seed, _SCORED), np.array([index]))
        return Pick(index, 0, int(bits[0] >> np.uint64(1)))

    def _scaled(self, image: Tensor) -> Tensor:
        if image.shape[-1] == self.tile_px:
            return image
        size = (self.tile_px, self.tile_px)
        return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def collate_images(items: Sequence[ImageBatch]) -> ImageBatch:
    """Stack tiles; those of fewer channels get absent ones."""
    most = max(len(item.present) for item in items)
    decoded = max(len(item.decoded) for item in items)
    wide = [_wide(item, most, decoded) for item in items]
    return ImageBatch(*(torch.stack(parts) for parts in zip(*wide, strict=True)))


def _wide(item: ImageBatch, channels: int, decoded: int) -> ImageBatch:
    """With absent channels at the end, the first of which is filled in where others have more."""
    more = channels - len(item.present)
    if not more:
        return item
    fewer = decoded - len(item.decoded)
    return item._replace(
        decoded=F.pad(item.decoded, (0, fewer), value=len(item.present)),
        image=F.pad(item.image, (0, 0, 0, 0, 0, more)),
        present=F.pad(item.present, (0, more)),
        markers=F.pad(item.markers, (0, more)),
        hidden=F.pad(item.hidden, (0, 0, 0, more), value=True),
    )
