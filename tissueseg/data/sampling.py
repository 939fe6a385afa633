"""The order in which training tiles are seen: a function of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from torch.utils.data import Sampler


class EpochShuffle(Sampler[int]):
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
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        yield from torch.randperm(len(self._items), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self._items)
