"""How likely each training tile is to be drawn: all alike, or more where rare classes are.

What a tile shows is counted by the caller, and only for those who ask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tissueseg.data.tiles import TileGrid
from tissueseg.numbers import check_number
from tissueseg.store.tile_counts import TileCounts, TileRaster

Count = Callable[[], np.ndarray]
"""Counts (n_tiles, n_classes + 1) pixels of every class and, last, of instances."""


class Chances(ABC):
    """A way of drawing training tiles."""

    once = False  # whether every tile comes once an epoch, in whatever order

    @abstractmethod
    def weights(self, count: Count) -> np.ndarray | None:
        """(n_tiles,) float64 chances relative to each other; None: every tile once an epoch."""


@dataclass(frozen=True)
class Natural(Chances):
    """Every tile once an epoch."""

    once = True

    def weights(self, count: Count) -> None:
        """None of them."""


@dataclass(frozen=True)
class Oversample(Chances):
    """Tiles with rare classes more often, as CellViT draws its training tiles.

    Tile i weighs (1 - γ) + γ · Σ N^γ / (γ·n_c + (1 - γ)·N), summed over the classes c that it shows,
    where n_c tiles show class c and N = Σ n_c; scaled to a maximum of 1 (Hörst et al. 2024,
    doi:10.1016/j.media.2024.103143). Background is no class. Where nothing is typed, cells of whatever
    type are the one class; without cells all tiles are alike.

    Attributes:
        gamma: γ, 0 (all alike) … 1 (tiles of background alone are never drawn).
    """

    gamma: float = 0.85

    def __post_init__(self) -> None:
        check_number("sampling.gamma", self.gamma, 0, 1)

    def weights(self, count: Count) -> np.ndarray:
        """See the class."""
        shown = _shown(count())
        tiles = shown.sum(axis=0)
        if not len(tiles):
            return np.ones(len(shown))
        total, gamma = tiles.sum(), self.gamma
        rarity = total**gamma / (gamma * tiles + (1 - gamma) * total)
        weights = (1 - gamma) + gamma * (shown @ rarity)
        return weights / weights.max()


@dataclass(frozen=True)
class Foreground(Chances):
    """With some chance a class, all alike, and then a tile that shows it; else any tile.

    As nnU-Net draws patches (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), but for every tile
    by itself instead of a fixed part of each batch. What counts as a class is as in `Oversample`.

    Attributes:
        share: chance of the former, 0 … 1.
    """

    share: float = 0.33

    def __post_init__(self) -> None:
        check_number("sampling.share", self.share, 0, 1)

    def weights(self, count: Count) -> np.ndarray:
        """The chances themselves, which add up to 1: both ways to a tile, taken together."""
        shown = _shown(count())
        tiles = shown.sum(axis=0)
        alike = np.full(len(shown), 1 / max(len(shown), 1))
        if not len(tiles):
            return alike
        return (1 - self.share) * alike + self.share * (shown @ (1 / tiles)) / len(tiles)


def training_counts(
    counts: TileCounts, tissues: Iterable[str], tile_px: int, edge: str
) -> np.ndarray:
    """Counts of all tiles of some tissues, in the order of a dataset's items.

    Args:
        counts: of the store.
        tissues: names.
        tile_px: side of a tile.
        edge: edge policy of `TileGrid`.
    """
    tables = []
    for tissue in tissues:
        entry = counts.store.entry(tissue)
        rows, columns = TileGrid(entry.height, entry.width, tile_px, edge).starts
        tables.append(counts.of(tissue, TileRaster(rows, columns, tile_px)))
    return np.concatenate(tables)


def _shown(counts: np.ndarray) -> np.ndarray:
    """(n_tiles, n) float64: which foreground classes that occur at all each tile shows."""
    shown = counts > 0
    typed = shown[:, 1:-1]
    kinds = typed if typed.any() else shown[:, -1:]
    return kinds[:, kinds.any(axis=0)].astype(np.float64)
