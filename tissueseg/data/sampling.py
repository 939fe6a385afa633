"""The order in which tiles are seen, and what is drawn for each: functions of seed and epoch alone.

An order is one for all processes that train together; each takes its part of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sized
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from tissueseg.data.dataset import Pick
from tissueseg.data.draws import drawn_bits
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError

_AT_A_TIME = 4096  # items as Python numbers, which take ten times the memory of an array's


_DRAWS = 1  # ends the key of what items draw, which views do not share; not 0, see `drawn_bits`


class EpochOrder(Sampler[int], ABC):
    """As many items as there are, in an order drawn anew for every epoch.

    The order does not depend on how many numbers anything else has drawn, so that two decoders with
    other layers see the same tiles in the same order. Lightning calls `set_epoch`.
    """

    repeats = False  # whether an item may come again in an epoch

    def __init__(self, items: Sized, seed: int) -> None:
        self._items, self._seed, self._epoch = items, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        for part in self.drawn().split(_AT_A_TIME):
            yield from part.tolist()

    def drawn(self) -> Tensor:
        """(n_items,) int64: this epoch's order."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        return self._order(generator)

    def __len__(self) -> int:
        return len(self._items)

    @abstractmethod
    def _order(self, generator: Generator) -> Tensor:
        """(n_items,) int64 indices."""


class EpochShuffle(EpochOrder):
    """All items once; any of them may follow any other."""

    def _order(self, generator: Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)


class ShardShuffle(EpochOrder):
    """All items once, those of few shards at a time: a disk or a remote store then reads few files.

    Shards come in an order drawn anew for every epoch and are dealt into groups of `at_once`; the
    items of a group are shuffled together, and one group is done before the next begins.

    Args:
        shards: (n_items,) int, the shard that each item lies in; any ids, in any order.
        seed: of the orders.
        at_once: shards in a group; the last group may have fewer.

    Raises:
        ConfigError: at_once is less than 1.
    """

    def __init__(self, shards: np.ndarray, seed: int, at_once: int = 4) -> None:
        if at_once < 1:
            raise ConfigError(f"at_once={at_once} shards, wanted 1 or more: choose at_once=4.")
        ids, shard = np.unique(shards, return_inverse=True)
        self._shard, self._n_shards, self._at_once = torch.from_numpy(shard), len(ids), at_once
        super().__init__(self._shard, seed)

    def _order(self, generator: Generator) -> Tensor:
        place = torch.randperm(self._n_shards, generator=generator)  # of each shard in this epoch
        shuffled = torch.randperm(len(self), generator=generator)
        group = (place // self._at_once)[self._shard[shuffled]]
        return shuffled[torch.argsort(group, stable=True)]


class WeightedOrder(EpochOrder):
    """Items drawn with replacement, some more often than others.

    Args:
        weights: (n_items,) float64 ≥ 0, not all 0: chances relative to each other.
        seed: of the orders.
    """

    repeats = True

    def __init__(self, weights: np.ndarray, seed: int) -> None:
        self._below = torch.from_numpy(np.cumsum(weights))  # sum of weights up to each item
        super().__init__(self._below, seed)

    def _order(self, generator: Generator) -> Tensor:
        place = torch.rand(len(self), generator=generator, dtype=torch.float64) * self._below[-1]
        found = torch.searchsorted(self._below, place, right=True)
        last = torch.searchsorted(self._below, self._below[-1:])  # that can be drawn: rounding may
        return found.clamp(max=int(last))  # take a place up to the end


class Rank(NamedTuple):
    """One of the processes that train together."""

    number: int = 0
    of: int = 1


class ScoredTiles(Sampler[int]):
    """A rank's part of a side that is scored: every item on one rank, none on two.

    Ranks take whole batches in turn, so that a batch holds what it would hold in one process, as far as
    there is one for each. Counts are summed over ranks, so nothing is repeated to make their parts
    equally long.

    Args:
        items: of the side.
        rank: of this process.
        batch_size: of a loader in one process.

    Attributes:
        batch_size: that a loader takes: smaller where some rank would have no batch else.

    Raises:
        ConfigError: more ranks than items; one without any would wait for the others for ever.
    """

    def __init__(self, items: Sized, rank: Rank, batch_size: int) -> None:
        _check_fed("scored", len(items), rank)
        self.batch_size = max(min(batch_size, len(items) // rank.of), 1)
        place = np.arange(len(items))
        self._mine = place[place // self.batch_size % rank.of == rank.number]

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self._mine), _AT_A_TIME):
            yield from self._mine[start : start + _AT_A_TIME].tolist()

    def __len__(self) -> int:
        return len(self._mine)


class TrainingPicks(Sampler[Pick]):
    """A rank's part of an epoch's order, with a view and a number drawn for every item.

    The order is cut to a multiple of the ranks, so that all take as many steps: the last few items
    that this leaves out are others in every epoch. Where an item comes again, it draws anew.

    Args:
        order: of the items, the same on every rank.
        views: to draw from.
        seed: of the draws.
        rank: of this process.
        unit: an epoch has a multiple of so many items a rank; what is over is left out.

    Raises:
        ConfigError: more ranks than items.
    """

    def __init__(
        self,
        order: EpochOrder,
        views: Views,
        seed: int,
        rank: Rank = Rank(),  # noqa: B008
        unit: int = 1,
    ) -> None:
        _check_fed("training", len(order), rank)
        self._order, self._views, self._rank, self._unit = order, views, rank, unit
        self._seed, self._epoch, self._skipped = seed, 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws come next."""
        self._epoch = epoch
        self._order.set_epoch(epoch)

    def skip(self, items: int) -> None:
        """Leave out the first of the rank's items in the epoch that comes next, and in that alone."""
        self._skipped = items

    def __iter__(self) -> Iterator[Pick]:
        first, self._skipped = self._skipped, 0
        epoch, order = self._epoch, self._order.drawn().numpy()
        keys = order
        if self._order.repeats:  # else 60 bytes a tile would be taken to count noughts
            keys = order + len(order) * occurrences(order)
        mine = slice(self._rank.number, len(self) * self._rank.of, self._rank.of)
        items, keys = order[mine][first:], keys[mine][first:]
        for start in range(0, len(items), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            views = self._views.drawn(self._seed, epoch, keys[part])
            draws = drawn_bits((self._seed, epoch, _DRAWS), keys[part]) >> np.uint64(1)
            yield from map(Pick, items[part].tolist(), views.tolist(), draws.tolist())

    def __len__(self) -> int:
        return len(self._order) // (self._rank.of * self._unit) * self._unit


def _check_fed(use: str, tiles: int, rank: Rank) -> None:
    if rank.of > 1 and tiles < rank.of:
        raise ConfigError(
            f"{tiles} {use} tiles cannot feed {rank.of} processes: lower trainer.devices, choose a "
            "smaller data.tile_px or use more tissues."
        )


def occurrences(items: np.ndarray) -> np.ndarray:
    """(N,) int64: how often each of (N,) `items` came before."""
    by_item = np.argsort(items, kind="stable")
    _, first, times = np.unique(items[by_item], return_index=True, return_counts=True)
    before = np.empty(len(items), np.int64)
    before[by_item] = np.arange(len(items)) - np.repeat(first, times)
    return before
