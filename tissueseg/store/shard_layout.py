"""What `zarr.json` says of a sharded array whose chunks lie in its files as they lie in memory.

https://zarr-specs.readthedocs.io/en/latest/v3/core/ and …/v3/codecs/sharding-indexed/. Whatever is not
known here, an extension or a mistake, makes an array one that only zarr may read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

_DTYPES = {
    "bool": "?", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "uint8": "u1",
    "uint16": "<u2", "uint32": "<u4", "uint64": "<u8", "float16": "<f2", "float32": "<f4",
    "float64": "<f8",
}  # fmt: skip
_ARRAY_KEYS = {
    "zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding",
    "fill_value", "codecs", "attributes", "dimension_names", "storage_transformers",
}  # fmt: skip
_SHARDING_KEYS = {"chunk_shape", "codecs", "index_codecs", "index_location"}
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_LARGEST_READ = 2**31 - 2**16  # bytes; beyond, systems cut a read short

NO_CHUNK = 2**64 - 1
"""Offset and length, in an index, of a chunk that was never written."""

MISSING, ASTRAY = -1, -2
"""In the place of an offset: there is no such chunk; none can lie where the index says."""


@dataclass(frozen=True)
class ShardLayout:
    """Where the chunks of an array lie, and what they hold."""

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]  # of inner chunks
    shard_shape: tuple[int, ...]
    dtype: np.dtype
    fill: np.ndarray  # () of dtype, for what was never written
    prefix: str  # of the names of shards
    separator: str  # between the numbers in them
    chunk_sum: bool  # whether crc32c follows each chunk
    index_sum: bool  # whether crc32c follows the index
    index_first: bool  # whether the index starts the file, or ends it

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Inner chunks along each axis of the array."""
        return _parts(self.shape, self.chunk_shape)

    @cached_property
    def shard_grid(self) -> tuple[int, ...]:
        """Shards along each axis of the array."""
        return _parts(self.shape, self.shard_shape)

    @cached_property
    def per_shard(self) -> tuple[int, ...]:
        """Inner chunks along each axis of a shard."""
        return _parts(self.shard_shape, self.chunk_shape)

    @cached_property
    def stored_bytes(self) -> int:
        """Bytes of an inner chunk in its file."""
        return math.prod(self.chunk_shape) * self.dtype.itemsize + 4 * self.chunk_sum

    @cached_property
    def index_bytes(self) -> int:
        """Bytes of an index in its file."""
        return 16 * math.prod(self.per_shard) + 4 * self.index_sum

    def starts(self, index: np.ndarray, file_bytes: int) -> np.ndarray:
        """Offsets of a shard's chunks, `MISSING` or `ASTRAY`; (n,) int64.

        Args:
            index: (n, 2) uint64, offset and length of each chunk.
            file_bytes: of the shard.
        """
        offsets, lengths = index.T
        last = max(file_bytes - self.stored_bytes, 0)
        astray = (lengths != self.stored_bytes) | (offsets > last)
        starts = np.where(astray, ASTRAY, offsets.astype(np.int64))
        return np.where((index == NO_CHUNK).all(1), MISSING, starts)


def direct_layout(metadata: Any) -> ShardLayout | None:
    """The layout of an array, None when it is not one to be read directly.

    Args:
        metadata: what its `zarr.json` holds.
    """
    try:
        return _layout(metadata)
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        return None


def _layout(metadata: Any) -> ShardLayout:
    _require(metadata.keys() <= _ARRAY_KEYS and not metadata.get("storage_transformers"))
    _require(metadata["zarr_format"] == 3 and metadata["node_type"] == "array")
    (codec,) = metadata["codecs"]
    sharding = _configuration(codec, "sharding_indexed")
    grid = _configuration(metadata["chunk_grid"], "regular")
    _require(sharding.keys() <= _SHARDING_KEYS and grid.keys() == {"chunk_shape"})
    location = sharding.get("index_location", "end")
    _require(location in ("start", "end"))
    dtype = np.dtype(_DTYPES[metadata["data_type"]])
    prefix, separator = _naming(metadata["chunk_key_encoding"])
    layout = ShardLayout(
        shape=_sizes(metadata["shape"], 0),
        chunk_shape=_sizes(sharding["chunk_shape"], 1),
        shard_shape=_sizes(grid["chunk_shape"], 1),
        dtype=dtype,
        fill=_fill(metadata["fill_value"], dtype),
        prefix=prefix,
        separator=separator,
        chunk_sum=_checksummed(sharding["codecs"], dtype.itemsize),
        index_sum=_checksummed(sharding["index_codecs"], 8),
        index_first=location == "start",
    )
    _check_sizes(layout)
    return layout


def _check_sizes(layout: ShardLayout) -> None:
    sizes = zip(layout.shape, layout.shard_shape, layout.chunk_shape, strict=True)
    _require(bool(layout.shape) and all(shard % chunk == 0 for _, shard, chunk in sizes))
    _require(max(layout.stored_bytes, layout.index_bytes) <= _LARGEST_READ)
    _require(math.prod(layout.shard_grid) < 2**63)


def _require(met: bool) -> None:
    if not met:
        raise ValueError("not of a form that is read directly")


def _named(entry: Any) -> tuple[str, dict[str, Any]]:
    """Name and configuration of a codec or the like; a bare name has none."""
    if isinstance(entry, str):
        return entry, {}
    _require(entry.keys() <= {"name", "configuration"})
    return entry["name"], entry.get("configuration", {})


def _configuration(entry: Any, wanted: str) -> dict[str, Any]:
    name, configuration = _named(entry)
    _require(name == wanted)
    return configuration


def _sizes(values: Any, least: int) -> tuple[int, ...]:
    _require(all(type(value) is int and value >= least for value in values))
    return tuple(values)


def _checksummed(codecs: Any, itemsize: int) -> bool:
    """Whether crc32c follows plain little-endian numbers; anything else is refused."""
    numbers, *others = codecs
    how = _configuration(numbers, "bytes")
    _require(how == {"endian": "little"} or (itemsize == 1 and how.keys() <= {"endian"}))
    checks = [_named(other) for other in others]
    _require(checks in ([], [("crc32c", {})]))
    return bool(checks)


def _naming(encoding: Any) -> tuple[str, str]:
    name, how = _named(encoding)
    separator = how.get("separator", {"default": "/", "v2": "."}[name])
    _require(how.keys() <= {"separator"} and separator in ("/", "."))
    return f"c{separator}" if name == "default" else "", separator


def _fill(value: Any, dtype: np.dtype) -> np.ndarray:
    """The fill value; numbers written as bits in hexadecimal are left to zarr."""
    known = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}[dtype.kind]
    if dtype.kind == "f" and value in _NOT_FINITE:
        return np.array(float(value), dtype)
    _require(type(value) in known)
    with np.errstate(over="raise"):
        return np.array(value, dtype)


def _parts(whole: tuple[int, ...], part: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-w // p) for w, p in zip(whole, part, strict=True))
