"""Chunks of sharded, uncompressed Zarr v3 arrays on a local disk, read straight into a batch.

Written from https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/, because zarr-python
copies each chunk several times and schedules tasks for it, which costs far more than reading it. What is
not stored in this plain form is left to zarr: `ShardedArray.open` returns None.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tissueseg.errors import TissueDataError
from tissueseg.store.open_shards import DamageError, OpenShards, Shard
from tissueseg.store.shard_layout import ASTRAY, MISSING, ShardLayout, direct_layout

_AHEAD = 64
"""Chunks announced to the disk before the first is read: at least a third faster when not cached."""


class ChunkError(TissueDataError):
    """A chunk that cannot be read.

    Args:
        folder: of its array.
        said: the message.
    """

    def __init__(self, folder: str, said: str) -> None:
        super().__init__(said)
        self.folder = folder


class ShardedArray:
    """Chunks of one array; safe to pickle, to use after a fork and to read from several threads."""

    def __init__(self, folder: Path, layout: ShardLayout, opened: OpenShards) -> None:
        self.folder, self._layout, self._opened = folder, layout, opened
        self.shape = layout.shape
        self.chunk_shape = layout.chunk_shape
        self.shard_shape = layout.shard_shape
        self.dtype = layout.dtype

    @classmethod
    def open(cls, folder: Path, opened: OpenShards) -> ShardedArray | None:
        """The array in a folder; None when it must be read through zarr, or is none at all.

        Args:
            folder: of the array, on a local disk.
            opened: shared with other arrays, which keep its limits together.
        """
        if not hasattr(os, "preadv"):
            return None
        try:
            layout = direct_layout(json.loads((folder / "zarr.json").read_bytes()))
        except (OSError, ValueError):  # zarr says what is wrong
            return None
        return cls(folder, layout, opened) if layout else None

    def pieces(self, chunks: np.ndarray, out: np.ndarray, rows: np.ndarray) -> Iterator[Piece]:
        """Whole chunks, those at the array's edge with their padding, for `read_ahead`.

        What was never written is filled with the fill value when its turn comes. Files are opened one
        by one: read soon. After an error, `out` holds a part of the chunks.

        Args:
            chunks: (n, ndim) integers, coordinates in the grid of inner chunks.
            out: (m, *chunk_shape), C-contiguous, of the array's dtype.
            rows: (n,) where in `out` each goes, none twice.

        Raises:
            ChunkError: while they are drawn or read: a shard is damaged, or the array is gone.
        """
        return self._pieces(self._batch(chunks, out, rows))

    def _batch(self, chunks: np.ndarray, out: np.ndarray, rows: np.ndarray) -> _Batch:
        self._check(chunks, out, rows)
        per_shard, shard_grid = self._layout.per_shard, self._layout.shard_grid
        shards, within = np.divmod(chunks.astype(np.int64), per_shard)
        ids = np.asarray(np.ravel_multi_index(tuple(shards.T), shard_grid))
        places = np.asarray(np.ravel_multi_index(tuple(within.T), per_shard))
        return _Batch(
            chunks=chunks,
            shards=ids,
            places=places,
            rows=rows,
            out=out,
            raw=out.view(np.uint8).reshape(len(out), out[:1].nbytes),
            order=np.lexsort((places, ids)),
        )

    def _check(self, chunks: np.ndarray, out: np.ndarray, rows: np.ndarray) -> None:
        grid, shape, dtype = self._layout.grid, self.chunk_shape, self.dtype
        if chunks.ndim != 2 or chunks.shape[1] != len(grid) or chunks.dtype.kind not in "iu":
            raise ValueError(
                f"chunks are {chunks.dtype} {chunks.shape}, wanted whole (n, {len(grid)})."
            )
        if len(chunks) and (chunks.min() < 0 or (chunks >= grid).any()):
            raise IndexError(f"chunks lie outside the grid {grid} of {self.folder}.")
        if out.dtype != dtype or out.shape[1:] != shape or not out.flags.carray:
            raise ValueError(
                f"out is {out.dtype} {out.shape}, wanted {dtype} (n, *{shape}), C-contiguous, writable."
            )
        fits = rows.shape == (len(chunks),) and ((rows >= 0) & (rows < len(out))).all()
        if not fits:
            raise ValueError(
                f"{len(chunks)} chunks and {len(rows)} rows do not fit into the {len(out)} of out."
            )

    def _pieces(self, batch: _Batch) -> Iterator[Piece]:
        shards = batch.shards.tolist()
        for _, group in groupby(batch.order.tolist(), shards.__getitem__):
            yield from self._of_shard(batch, list(group))

    def _of_shard(self, batch: _Batch, group: list[int]) -> Iterator[Piece]:
        """Where the chunks of one shard lie; those that do not exist are filled at once."""
        at = group[0]
        try:
            shard = self._opened.open(self._path(batch.chunks[at]))
            starts = self._opened.starts(shard, self._layout)[batch.places[group]]
            for at, start in zip(group, starts.tolist(), strict=True):
                if start == ASTRAY:
                    raise DamageError("has an offset or a length in the index that it cannot have")
                row = batch.rows[at]
                if start == MISSING:
                    batch.out[row] = self._layout.fill
                else:
                    yield Piece(self, batch.chunks[at], shard, start, batch.raw[row])
        except FileNotFoundError as error:
            if not (self.folder / "zarr.json").is_file():
                raise self._error(batch.chunks[at], error) from error
            batch.out[batch.rows[group]] = self._layout.fill
        except (OSError, DamageError) as error:
            raise self._error(batch.chunks[at], error) from error

    def _path(self, chunk: np.ndarray) -> str:
        shard = (chunk // self._layout.per_shard).tolist()
        name = self._layout.separator.join(map(str, shard))
        return f"{self.folder}{os.sep}{self._layout.prefix}{name}"

    def _error(self, chunk: np.ndarray, error: OSError | DamageError) -> ChunkError:
        where = f"{self._path(chunk)}: chunk {tuple(chunk.tolist())}"
        if isinstance(error, OSError):
            said = f"cannot be read ({error.strerror}): see that the file is there and may be read."
        else:
            said = f"{error}: the file is damaged."
        return ChunkError(str(self.folder), f"{where} {said}")


class _Batch(NamedTuple):
    """Chunks to read and where they go."""

    chunks: np.ndarray  # (n, ndim) in the grid of inner chunks
    shards: np.ndarray  # (n,) in the flattened grid of shards
    places: np.ndarray  # (n,) in the flattened grid of a shard's chunks
    rows: np.ndarray  # (n,) in out
    out: np.ndarray  # (m, *chunk_shape)
    raw: np.ndarray  # (m, bytes) uint8, the same memory
    order: np.ndarray  # (n,) that brings chunks of one shard together


class Piece(NamedTuple):
    """A chunk that exists, and where it goes."""

    array: ShardedArray
    chunk: np.ndarray  # (ndim,) in the grid of inner chunks
    shard: Shard
    start: int  # its offset in the file
    out: np.ndarray  # (bytes,) uint8

    def announce(self) -> None:
        """Have the disk fetch it while others are read."""
        self.shard.announce(self.start, self.array._layout.stored_bytes)

    def read(self) -> None:
        """Read it.

        Raises:
            ChunkError: it is damaged, or cannot be read.
        """
        try:
            self.shard.read(self.start, self.out, self.array._layout.chunk_sum)
        except (OSError, DamageError) as error:
            raise self.array._error(self.chunk, error) from error


def read_ahead(pieces: Iterator[Piece]) -> None:
    """Read chunks of any arrays, some of them announced before the first is waited for.

    Raises:
        ChunkError: one is damaged, or cannot be read.
    """
    while window := list(islice(pieces, _AHEAD)):
        for piece in window:
            piece.announce()
        for piece in window:
            piece.read()
