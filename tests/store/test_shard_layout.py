"""Which arrays are read directly: whatever is not known is left to zarr."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import zarr
from shard_arrays import CHUNK, SHAPE, SHARD, make
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec

from tissueseg.store.open_shards import OpenShards
from tissueseg.store.shards import ShardedArray


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "array")
    return tmp_path / "array"


def direct(folder: Path) -> ShardedArray | None:
    return ShardedArray.open(folder, OpenShards())


CHANGES: dict[str, dict[str, Any]] = {
    "an unknown key": {"must": 1},
    "version 2": {"zarr_format": 2},
    "a group": {"node_type": "group"},
    "a storage transformer": {"storage_transformers": [{"name": "x"}]},
    "another grid": {
        "chunk_grid": {"name": "rectangular", "configuration": {"chunk_shape": SHARD}}
    },
    "shards of no whole chunks": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 1, 5]}}
    },
    "shards of fewer axes": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 6]}}
    },
    "shards of nothing": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 1, 6]}}
    },
    "complex numbers": {"data_type": "complex64"},
    "a fill value of bits": {"fill_value": "0x7e01"},
    "a fill value too large": {"fill_value": 1e9},
    "a fill value of truth": {"fill_value": True},
    "no fill value": {"fill_value": None},
    "unknown names": {"chunk_key_encoding": {"name": "hilbert"}},
    "an unknown separator": {
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "-"}}
    },
    "no axes": {"shape": []},
    "more shards than can be counted": {"shape": [2**62, 2**10, 6]},
    "an index too large for one read": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**27, 1, 6]}}
    },
    "a shape of words": {"shape": ["7", "2", "6"]},
    "no codecs": {"codecs": []},
    "a list": {"codecs": None},
}


@pytest.mark.parametrize("change", CHANGES)
def test_arrays_of_another_form_are_left_to_zarr(folder: Path, change: str) -> None:
    metadata = json.loads((folder / "zarr.json").read_text())
    assert direct(folder) is not None
    (folder / "zarr.json").write_text(json.dumps(metadata | CHANGES[change]))
    assert direct(folder) is None


LITTLE, BIG = BytesCodec(), BytesCodec(endian="big")
SHARDINGS: dict[str, dict[str, Any]] = {
    "compressed": {"codecs": [LITTLE, GzipCodec()]},
    "compressed and checked": {"codecs": [LITTLE, GzipCodec(), Crc32cCodec()]},
    "transposed": {"codecs": [TransposeCodec(order=(2, 1, 0)), LITTLE]},
    "big-endian": {"codecs": [BIG]},
    "a big-endian index": {"index_codecs": [BIG, Crc32cCodec()]},
    "checked twice": {"codecs": [LITTLE, Crc32cCodec(), Crc32cCodec()]},
    "shards in shards": {"codecs": [ShardingCodec(chunk_shape=(1, 1, 1), codecs=[LITTLE])]},
}


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_chunks_of_another_form_are_left_to_zarr(tmp_path: Path, sharding: str) -> None:
    codec = ShardingCodec(chunk_shape=CHUNK, **SHARDINGS[sharding])
    zarr.create_array(
        tmp_path, shape=SHAPE, chunks=SHARD, dtype="f2", serializer=codec, compressors=None
    )
    assert direct(tmp_path) is None


def test_arrays_without_shards_are_left_to_zarr(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "plain", shape=SHAPE, chunks=CHUNK, dtype="f2", compressors=None)
    zarr.create_array(tmp_path / "old", shape=SHAPE, chunks=CHUNK, dtype="f2", zarr_format=2)
    zarr.create_array(
        tmp_path / "whole",
        shape=SHAPE,
        chunks=CHUNK,
        shards=SHARD,
        dtype="f2",
        compressors=GzipCodec(),
    )
    assert [direct(tmp_path / name) for name in ("plain", "old", "whole")] == [None] * 3


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff", b'{"zarr_format": 3}'])
def test_what_is_no_array_is_left_to_zarr(folder: Path, text: bytes) -> None:
    (folder / "zarr.json").write_bytes(text)
    assert direct(folder) is None
    assert direct(folder / "nowhere") is None


def test_systems_that_cannot_read_this_way_leave_it_to_zarr(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "preadv")
    assert direct(folder) is None
