"""A trained network over a whole tissue: tiles in, maps of square regions out, one after the other.

Tiles overlap, and where they do their maps are blended. While the network computes, a thread reads and
scales the next tiles; a region's images are read once, and its tiles cut from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tissueseg.data.images import TileImages
from tissueseg.errors import FeatureOverflowError
from tissueseg.instances.boxes import Box
from tissueseg.instances.mosaic import Mosaic
from tissueseg.instances.tiling import Tiling
from tissueseg.modules.inference import TileMaps, TileNetwork

Position = tuple[int, int]


class RegionMaps(NamedTuple):
    """What the network says of one region."""

    box: Box
    planes: np.ndarray  # (planes, height, width) float32
    features: np.ndarray | None  # (D, h, w) float32, the encoder's last grid
    grid: Box  # where these lie, in tokens


class TissueMaps:
    """Predicts tissues region by region; memory holds a region and what reaches over into the next.

    Args:
        network: trained.
        images: of the tissues, with the encoder's halo.
        tile_px: side of a tile.
        overlap_px: of neighbouring tiles.
        blend: how overlapping maps become one, see `Mosaic`.
        region_px: side of a region.
        batch_size: tiles predicted at a time.
        features_width: channels of the encoder's last grid; 0: it is not wanted.
    """

    def __init__(
        self,
        network: TileNetwork,
        images: TileImages,
        *,
        tile_px: int,
        overlap_px: int,
        blend: str,
        region_px: int,
        batch_size: int,
        features_width: int = 0,
    ) -> None:
        self._network, self._images = network, images
        self._tile_px, self._overlap_px, self._blend = tile_px, overlap_px, blend
        self._region_px, self._batch_size = region_px, batch_size
        self._features_width = features_width
        self._stride = network.encoder.stride_px

    def regions(self, tissue: str, shape: tuple[int, int]) -> Iterator[RegionMaps]:
        """Predict a tissue of `shape` (height, width): its regions in rows.

        Raises:
            FeatureOverflowError: the network gave something that is no number.
        """
        mosaic = self._mosaic(shape, 1, self._network.layout.planes)
        tokens = -(-shape[0] // self._stride), -(-shape[1] // self._stride)
        wanted = self._features_width
        grid = self._mosaic(tokens, self._stride, wanted) if wanted else None
        with ThreadPoolExecutor(1, "read tiles") as reader:
            batches = self._batches(tissue, list(mosaic.tiles()))
            ahead = reader.submit(next, batches, None)
            while (batch := ahead.result()) is not None:
                ahead = reader.submit(next, batches, None)
                maps = self._network(batch.image, batch.present)
                self._refuse_overflow(maps, tissue, batch.positions)
                self._add(maps, batch.positions, mosaic, grid)
                whole = mosaic.finished()
                if grid is None:
                    yield from (RegionMaps(box, planes, None, box) for box, planes in whole)
                    continue
                for (box, planes), (at, features) in zip(whole, grid.finished(), strict=True):
                    yield RegionMaps(box, planes, features, at)

    def _mosaic(self, shape: tuple[int, int], unit: int, channels: int) -> Mosaic:
        """In pixels, or in tokens of `unit` pixels."""
        tiling = Tiling(shape, self._tile_px // unit, self._overlap_px // unit, self._blend)
        return Mosaic(tiling, self._region_px // unit, channels)

    def _add(
        self, maps: TileMaps, positions: Sequence[Position], mosaic: Mosaic, grid: Mosaic | None
    ) -> None:
        for i, (y, x) in enumerate(positions):
            mosaic.add((y, x), maps.planes[i])
            if grid is not None and maps.features is not None:
                grid.add((y // self._stride, x // self._stride), maps.features[i])

    def _batches(self, tissue: str, positions: Sequence[Position]) -> Iterator[_Batch]:
        """Tiles of one region after the other, scaled."""
        for _, group in groupby(positions, self._region_of):
            places = list(group)
            rows, columns = zip(*places, strict=True)
            start = min(rows), min(columns)
            size = (
                max(rows) + self._tile_px - start[0],
                max(columns) + self._tile_px - start[1],
            )
            region = self._images.region(tissue, start, size)
            for first in range(0, len(places), self._batch_size):
                chosen = places[first : first + self._batch_size]
                tiles = [self._images.cut(region, place) for place in chosen]
                image, present = (np.stack(part) for part in zip(*tiles, strict=True))
                yield _Batch(torch.from_numpy(image), torch.from_numpy(present), chosen)

    def _region_of(self, place: Position) -> Position:
        return max(place[0], 0) // self._region_px, max(place[1], 0) // self._region_px

    def _refuse_overflow(self, maps: TileMaps, tissue: str, positions: Sequence[Position]) -> None:
        if maps.finite.all():
            return
        y, x = positions[int(maps.finite.argmin())]
        raise FeatureOverflowError(
            f"the network gave maps that are not finite for tissue {tissue}, tile at row {y}, column "
            f"{x}: its numbers outgrow their type, or its weights are damaged. Use "
            "trainer.precision=bf16-mixed or 32-true; if they do not help, look at that tile."
        )


class _Batch(NamedTuple):
    image: Tensor  # (B, C, H, W) with halo
    present: Tensor  # (B, C)
    positions: list[Position]
