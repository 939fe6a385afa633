"""Stored features for the tiles of a batch, and back into what an encoder returns."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from tissueseg.contracts import Batch, Features
from tissueseg.data.tiles import TileCover
from tissueseg.store.embeddings import EmbeddingStore, Request

TORCH_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


_KEPT_BATCHES = 4
_ALIGNED = 64  # bytes: the kernel copies into other places at half the speed


def array_of(features: Tensor) -> np.ndarray:
    """The same memory as numpy sees it: bits, where numpy has no such number type."""
    return features.view(torch.uint16).numpy() if _has_bits(features) else features.numpy()


class FeatureReader:
    """Adds features to batches that come without.

    Args:
        store: that holds every tile and view asked for; views have the same numbers there.
        covers: of each tissue that `Batch.tissue` counts: its tiles, as they are numbered in the store.
        tissues: their names.
        pin_memory: put features where a GPU fetches them from.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        covers: Sequence[TileCover],
        tissues: Sequence[str],
        pin_memory: bool = False,
    ) -> None:
        self._store, self._covers, self._tissues = store, tuple(covers), tuple(tissues)
        self._pin_memory = pin_memory and torch.accelerator.is_available()
        self._memory = BatchMemory()

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its features (B, level, h, w, D), in the number type of the store."""
        tissues, views = batch.tissue.tolist(), batch.view.tolist()
        tiles = self._tiles(batch.tissue.numpy(), batch.origin.numpy()).tolist()
        requests = [
            Request(self._tissues[tissue], tile, view)
            for tissue, tile, view in zip(tissues, tiles, views, strict=True)
        ]
        features = self._empty((len(requests), *self._store.grid))
        self._store.read(requests, array_of(features))
        return batch._replace(features=features)

    def shards(self, tissues: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """In which shard of the whole store tiles lie.

        Args:
            tissues: (n,) indices.
            origins: (n, 2) rows and columns.

        Returns:
            (n,) int64 ids, alike for tiles of one shard.
        """
        tiles = self._tiles(tissues, origins)
        sizes = np.ones(len(self._tissues), np.int64)
        for tissue in np.unique(tissues):  # one without tiles is not stored
            sizes[tissue] = self._store.shard_tiles(self._tissues[tissue])
        return tissues.astype(np.int64) << 32 | tiles // sizes[tissues]

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        dtype = TORCH_DTYPES[self._store.dtype]
        if self._pin_memory:  # torch keeps such memory itself
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        return self._memory.empty(shape, dtype)

    def _tiles(self, tissues: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """(n,) numbers of tiles in their tissues' arrays."""
        found = np.empty(len(tissues), np.int64)
        for tissue in np.unique(tissues):
            rows = tissues == tissue
            found[rows] = self._covers[tissue].index(origins[rows])
        return found


class BatchMemory:
    """Memory for one batch after another, used again when nobody holds what lay there.

    Fresh pages for tens of megabytes cost as much as reading from the page cache does.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor on the CPU, not initialised."""
        size = math.prod(shape) * dtype.itemsize
        memory = self._take(size + _ALIGNED)
        start = -memory.ctypes.data % _ALIGNED
        lent = memory[start : start + size]
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)  # keeps that very array

    def _take(self, size: int) -> np.ndarray:
        with suppress(IndexError):  # another thread's
            while self._free:
                if len(memory := self._free.pop()) >= size:
                    return memory
        return np.empty(size, np.uint8)

    def _give_back(self, memory: np.ndarray) -> None:
        if len(self._free) < _KEPT_BATCHES:
            self._free.append(memory)


def as_encoded(batch: Batch) -> Features:
    """What the encoder would have returned, in the number type to compute in.

    That is autocast's where it is on, else float32: CPUs multiply float16 numbers one by one.
    """
    assert batch.features is not None
    kind = batch.features.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    levels = (level.to(dtype).permute(0, 3, 1, 2) for level in batch.features.unbind(1))
    return Features(tuple(levels), batch.image)


def _has_bits(features: Tensor) -> bool:
    return features.dtype == torch.bfloat16
