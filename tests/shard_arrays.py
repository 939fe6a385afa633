"""Small sharded arrays as zarr writes them, and what must be read of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from tissueseg.store.open_shards import OpenShards
from tissueseg.store.shards import ShardedArray, read_ahead

SHAPE, SHARD, CHUNK = (7, 2, 6), (4, 1, 6), (1, 1, 3)  # the last shard along the first axis: 3 of 4
LAST_SHARD = "c/1/1/0"
LAST_CHUNKS = np.array([[4, 1, 0], [4, 1, 1], [5, 1, 0], [5, 1, 1], [6, 1, 0], [6, 1, 1]])
"""Those the last shard holds; it has room for 8."""


def make(
    folder: Path,
    shape: Sequence[int] = SHAPE,
    shard: Sequence[int] = SHARD,
    chunk: Sequence[int] = CHUNK,
    dtype: str = "float16",
    checksums: tuple[bool, bool] = (True, True),
    location: str = "end",
    **options: Any,
) -> np.ndarray:
    """An array of random numbers without zeros, as zarr writes it; returns them."""
    codecs = [[BytesCodec(), Crc32cCodec()] if checked else [BytesCodec()] for checked in checksums]
    sharding = ShardingCodec(
        chunk_shape=tuple(chunk), codecs=codecs[0], index_codecs=codecs[1], index_location=location
    )
    array = zarr.create_array(
        folder,
        shape=shape,
        chunks=shard,
        dtype=dtype,
        serializer=sharding,
        compressors=None,
        **options,
    )
    numbers = np.random.default_rng(0).integers(1, 100, shape).astype(dtype)
    array[...] = numbers
    return numbers


def opened(folder: Path, shards: OpenShards | None = None) -> ShardedArray:
    array = ShardedArray.open(folder, shards or OpenShards())
    assert array is not None
    return array


def all_chunks(array: ShardedArray) -> np.ndarray:
    grid = [-(-size // chunk) for size, chunk in zip(array.shape, array.chunk_shape, strict=True)]
    return np.stack(np.unravel_index(np.arange(math.prod(grid)), grid), 1)


def read(array: ShardedArray, chunks: np.ndarray, threads: int = 1) -> np.ndarray:
    """By so many threads, a part each."""
    out = np.full((len(chunks), *array.chunk_shape), 77, array.dtype)
    parts = np.array_split(np.arange(len(chunks)), threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: read_ahead(array.pieces(chunks[part], out, part)), parts))
    return out


def assert_holds(
    array: ShardedArray, numbers: np.ndarray, chunks: np.ndarray, got: np.ndarray
) -> None:
    """Bit for bit, as far as a chunk lies inside the array."""
    for chunk, pixels in zip(chunks, got, strict=True):
        corner = chunk * array.chunk_shape
        wanted = numbers[tuple(map(slice, corner, corner + array.chunk_shape))]
        inside = pixels[tuple(map(slice, wanted.shape))]
        assert inside.tobytes() == wanted.tobytes()


def assert_read(folder: Path, numbers: np.ndarray, threads: int = 1) -> None:
    array = opened(folder)
    chunks = np.random.default_rng(1).permutation(all_chunks(array))
    assert_holds(array, numbers, chunks, read(array, chunks, threads))


def as_zarr_reads(folder: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(folder, mode="r")[...])
