"""Shards written past zarr: zarr reads what was put in, and nothing is called written too early."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from shard_arrays import as_zarr_reads, opened, read
from zarr.codecs import Crc32cCodec

from tissueseg.store import shard_file
from tissueseg.store.shard_file import checksum, write_shard

PER_SHARD, CHUNK = (3, 2), (2, 5)
COUNT = 6
BEFORE_INDEX = (COUNT - 1) * 128 + 80 + 4  # chunks of ten float64 and their sums, each begun at 64
KEY = "c/1/0/0/0"
NUMBERS = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
]


def make_array(folder: Path, dtype: str, fill: float = 0) -> None:
    """Six tiles in two views, three tiles a shard."""
    zarr.create_array(
        folder,
        shape=(6, 2, *CHUNK),
        chunks=(1, 1, *CHUNK),
        shards=(*PER_SHARD, *CHUNK),
        dtype=dtype,
        compressors=[Crc32cCodec()],
        filters=None,
        fill_value=fill,
    )


def chunks_of(dtype: str, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 100, (count, *CHUNK)).astype(dtype)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("count", [COUNT, 5, 2, 1])
def test_zarr_and_we_read_what_was_put_in(tmp_path: Path, dtype: str, count: int) -> None:
    make_array(tmp_path, dtype)
    chunks = chunks_of(dtype, count)
    write_shard(tmp_path / KEY, chunks, COUNT)
    wanted = np.zeros((COUNT, *CHUNK), dtype)
    wanted[:count] = chunks
    found = as_zarr_reads(tmp_path)
    assert found[3:].tobytes() == wanted.tobytes()
    assert not found[:3].any()
    places = np.array([[3 + tile, view, 0, 0] for tile in range(3) for view in range(2)])
    ours = read(opened(tmp_path), places)
    assert ours.tobytes() == wanted.tobytes()


def test_no_chunk_at_all_is_a_shard_too(tmp_path: Path) -> None:
    make_array(tmp_path, "float16", fill=float("nan"))
    write_shard(tmp_path / KEY, chunks_of("float16", 0), COUNT)
    assert np.isnan(as_zarr_reads(tmp_path)).all()


def test_every_bit_pattern_of_16_bits_comes_back(tmp_path: Path) -> None:
    """Numbers that are not finite, subnormal or negative zero among them."""
    chunks = np.arange(2**16, dtype=np.uint16).reshape(4, 2**14)
    zarr.create_array(
        tmp_path,
        shape=chunks.shape,
        chunks=(1, 2**14),
        shards=(4, 2**14),
        dtype="float16",
        compressors=[Crc32cCodec()],
        fill_value=0,
    )
    write_shard(tmp_path / "c/0/0", chunks.view(np.float16), 4)
    assert as_zarr_reads(tmp_path).tobytes() == chunks.tobytes()


def test_what_zarr_writes_over_it_is_read_again(tmp_path: Path) -> None:
    make_array(tmp_path, "float32")
    chunks = chunks_of("float32")
    write_shard(tmp_path / KEY, chunks, COUNT)
    zarr.open_array(tmp_path)[4, 1] = -1.5
    wanted = chunks.reshape(*PER_SHARD, *CHUNK).copy()
    wanted[1, 1] = -1.5
    assert np.array_equal(as_zarr_reads(tmp_path)[3:], wanted)


def test_a_flipped_byte_is_found_by_zarr(tmp_path: Path) -> None:
    make_array(tmp_path, "uint16")
    write_shard(tmp_path / KEY, chunks_of("uint16"), COUNT)
    data = bytearray((tmp_path / KEY).read_bytes())
    data[1] ^= 8
    (tmp_path / KEY).write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        as_zarr_reads(tmp_path)


def test_the_checksum_is_crc32c() -> None:
    """Its published check value: https://reveng.sourceforge.io/crc-catalogue/17plus.htm (iSCSI)."""
    raw = np.frombuffer(b"123456789", np.uint8)
    assert checksum(raw) == 0xE3069283.to_bytes(4, "little")


def test_a_shard_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    write_shard(tmp_path / KEY, chunks_of("int8"), COUNT)
    before = (tmp_path / KEY).read_bytes()
    with pytest.raises(FileExistsError):
        write_shard(tmp_path / KEY, chunks_of("int8") + np.int8(1), COUNT)
    assert (tmp_path / KEY).read_bytes() == before


def test_the_whole_file_is_on_disk_before_it_counts_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(
        shard_file.os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size)
    )
    write_shard(tmp_path / KEY, chunks_of("float64"), COUNT)
    assert sizes == [(tmp_path / KEY).stat().st_size] == [BEFORE_INDEX + COUNT * 16 + 4]


def test_chunks_begin_at_aligned_places(tmp_path: Path) -> None:
    write_shard(tmp_path / KEY, chunks_of("float64"), COUNT)
    index = np.frombuffer((tmp_path / KEY).read_bytes()[-COUNT * 16 - 4 : -4], "<u8")
    assert (index.reshape(COUNT, 2) == [[i * 128, 84] for i in range(COUNT)]).all()
