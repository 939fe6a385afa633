"""Stored features for the tiles of a batch, and back into what an encoder returns."""

from __future__ import annotations

from collections.abc import Sequence

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


def array_of(features: Tensor) -> np.ndarray:
    """The same memory as numpy sees it: bits, where numpy has no such number type."""
    return features.view(torch.uint16).numpy() if _has_bits(features) else features.numpy()


class StoredFeatures:
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
        self._pin_memory = pin_memory

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its features (B, level, h, w, D), in the number type of the store."""
        tissues, views = batch.tissue.tolist(), batch.view.tolist()
        tiles = self._tiles(batch.tissue.numpy(), batch.origin.numpy()).tolist()
        requests = [
            Request(self._tissues[tissue], tile, view)
            for tissue, tile, view in zip(tissues, tiles, views, strict=True)
        ]
        features = torch.empty(
            (len(requests), *self._store.grid),
            dtype=TORCH_DTYPES[self._store.dtype],
            pin_memory=self._pin_memory,
        )
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

    def _tiles(self, tissues: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """(n,) numbers of tiles in their tissues' arrays."""
        found = np.empty(len(tissues), np.int64)
        for tissue in np.unique(tissues):
            rows = tissues == tissue
            found[rows] = self._covers[tissue].index(origins[rows])
        return found


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
