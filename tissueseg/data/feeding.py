"""What a data module is told of how tiles are cut, drawn and fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from tissueseg.data.loading import PrefetchLoader
from tissueseg.errors import ConfigError

SHUFFLES = ("full", "shard")

ItemT = TypeVar("ItemT")
BatchT = TypeVar("BatchT")


class Share(NamedTuple):
    """A process's part of every training step."""

    batch_size: int  # tiles at once
    batches: int  # whose gradients make a step


@dataclass(frozen=True)
class Loading:
    """How tiles are cut and fed."""

    tile_px: int
    batch_size: int  # tiles of a training step, over all processes
    train_edge: str = "shift"
    eval_edge: str = "pad"
    shuffle: str = (
        "full"  # shard: tiles of few shards at a time, for disks that seek and remote stores
    )
    num_workers: int = 0  # 0 reads on a thread of the training process
    prefetch: int = 2  # batches made ahead on that thread
    pin_memory: bool = False
    drop_last: bool = False  # leave out an epoch's last training batch if it is smaller
    seed: int = 0
    at_a_time: int | None = None  # tiles a process trains on at once; None: all of its part

    def share(self, processes: int) -> Share:
        """What one of several processes takes of a training step.

        Raises:
            ConfigError: a step's tiles cannot be shared equally.
        """
        if self.batch_size % processes:
            raise ConfigError(
                f"data.batch_size={self.batch_size} tiles a step cannot be shared equally by {processes} "
                f"processes: choose a multiple of {processes}, or another trainer.devices."
            )
        own = self.batch_size // processes
        most = min(self.at_a_time or own, own)
        batch = max(size for size in range(1, most + 1) if own % size == 0)
        return Share(batch, own // batch)

    def loader(
        self,
        data: Dataset[ItemT],
        sampler: Sampler[Any],
        batch_size: int,
        collate: Callable[[list[ItemT]], BatchT],
        finish: Callable[[BatchT], BatchT] | None = None,
    ) -> DataLoader[BatchT]:
        """Feed items in a sampler's order, made ahead of the step.

        Args:
            data: whose items are tiles.
            sampler: of what a process takes.
            batch_size: tiles at once.
            collate: makes a batch of tiles.
            finish: what is still to be done with a batch, in this process; None: nothing.
        """
        workers = self.num_workers
        batches = cast("Dataset[BatchT]", data)  # torch names a loader by its items
        return PrefetchLoader(
            batches,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.pin_memory,
            collate_fn=collate,
            depth=self.prefetch,
            finish=finish,
        )

    def __post_init__(self) -> None:
        if self.shuffle not in SHUFFLES:
            raise ConfigError(f"data.shuffle={self.shuffle!r}: choose from {', '.join(SHUFFLES)}.")


class Sampling(NamedTuple):
    """How training tiles are drawn."""

    weights: np.ndarray | None = None  # (n_tiles,) relative chances; None: every tile once an epoch
    notes: tuple[str, ...] = ()  # for the user: what there is to say of it


NATURAL = Sampling()


def check_shuffle(shuffle: str, once: bool) -> None:
    """Refuse shards with tiles that do not come once an epoch: these lie in any shard."""
    if shuffle == "shard" and not once:
        raise ConfigError(
            "data.shuffle=shard reads every tile once, shard by shard, but sampling draws tiles with "
            "replacement: choose sampling=natural or data.shuffle=full."
        )
