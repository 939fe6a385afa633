"""The order in which training tiles are seen: a function of seed and epoch alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sized

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from tissueseg.data.dataset import Pick
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError

_AT_A_TIME = 4096  # items as Python numbers, which take ten times the memory of an array's


class EpochOrder(Sampler[int], ABC):
    """All items once, in an order drawn anew for every epoch.

    The order does not depend on how many numbers anything else has drawn, so that two decoders with
    other layers see the same tiles in the same order. Lightning calls `set_epoch`.
    """

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
        """(n_items,) int64, every index once."""


class EpochShuffle(EpochOrder):
    """Any item may follow any other."""

    def _order(self, generator: Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)


class ShardShuffle(EpochOrder):
    """Items of few shards at a time, so that a disk or a remote store reads few files at a time.

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


class DrawnViews(Sampler[Pick]):
    """One view of every item, drawn anew in every epoch.

    Args:
        order: of the items.
        views: to draw from.
        seed: of the draws.
    """

    def __init__(self, order: EpochOrder, views: Views, seed: int) -> None:
        self._order, self._views, self._seed, self._epoch = order, views, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and views come next."""
        self._epoch = epoch
        self._order.set_epoch(epoch)

    def __iter__(self) -> Iterator[Pick]:
        epoch, order = self._epoch, self._order.drawn()
        for items in order.split(_AT_A_TIME):
            views = self._views.drawn(self._seed, epoch, items.numpy())
            yield from map(Pick, items.tolist(), views.tolist())

    def __len__(self) -> int:
        return len(self._order)
