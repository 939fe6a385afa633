"""What a data module is told of how tiles are cut, drawn and fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError

SHUFFLES = ("full", "shard")


@dataclass(frozen=True)
class Loading:
    """How tiles are cut and fed."""

    tile_px: int
    batch_size: int
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
