"""Chunks read past zarr: they hold the bytes that zarr wrote."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_arrays import (
    CHUNK,
    LAST_SHARD,
    SHAPE,
    SHARD,
    all_chunks,
    as_zarr_reads,
    assert_holds,
    assert_read,
    make,
    opened,
    read,
)

from tissueseg.errors import TissueDataError
from tissueseg.store.open_shards import OpenShards
from tissueseg.store.shards import ShardedArray, read_ahead

NUMBERS = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "array")
    return tmp_path / "array"


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_type_of_number(tmp_path: Path, dtype: str) -> None:
    numbers = make(tmp_path, dtype=dtype)
    array = opened(tmp_path)
    assert (array.shape, array.shard_shape, array.chunk_shape) == (SHAPE, SHARD, CHUNK)
    assert array.dtype == np.dtype(dtype)
    assert_read(tmp_path, numbers)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("checksums", [(True, True), (True, False), (False, True), (False, False)])
def test_every_form_of_index(tmp_path: Path, checksums: tuple[bool, bool], location: str) -> None:
    assert_read(tmp_path, make(tmp_path, checksums=checksums, location=location))


@pytest.mark.parametrize("name", ["default", "v2"])
@pytest.mark.parametrize("separator", ["/", "."])
def test_every_name_of_a_shard(tmp_path: Path, name: str, separator: str) -> None:
    encoding = {"name": name, "separator": separator}
    assert_read(tmp_path, make(tmp_path, chunk_key_encoding=encoding))
    metadata = json.loads((tmp_path / "zarr.json").read_text())
    assert metadata["chunk_key_encoding"]["configuration"]["separator"] == separator


def test_codecs_and_names_that_leave_out_what_is_usual(folder: Path) -> None:
    numbers = as_zarr_reads(folder)
    metadata = json.loads((folder / "zarr.json").read_text())
    metadata["chunk_key_encoding"] = "default"
    sharding = metadata["codecs"][0]["configuration"]
    sharding["codecs"][1] = "crc32c"
    del sharding["index_location"], metadata["storage_transformers"]
    (folder / "zarr.json").write_text(json.dumps(metadata))
    assert_read(folder, numbers)


@st.composite
def forms(draw: st.DrawFn) -> dict[str, Any]:
    ndim = draw(st.integers(1, 4))
    sizes = st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim)
    chunk, per_shard = draw(sizes), draw(sizes)
    shard = [c * p for c, p in zip(chunk, per_shard, strict=True)]
    shape = [draw(st.integers(1, 2 * s + 1)) for s in shard]
    return {
        "shape": shape,
        "shard": shard,
        "chunk": chunk,
        "dtype": draw(st.sampled_from(["uint8", "float16", "int64"])),
        "checksums": draw(st.tuples(st.booleans(), st.booleans())),
        "location": draw(st.sampled_from(["start", "end"])),
    }


@given(form=forms(), data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_chunks_of_any_array(tmp_path: Path, form: dict[str, Any], data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "array", ignore_errors=True)
    numbers = make(tmp_path / "array", **form)
    array = opened(tmp_path / "array")
    every = all_chunks(array)
    drawn = st.lists(st.integers(0, len(every) - 1), max_size=20)  # with repetitions, or none
    chunks = every[np.array(data.draw(drawn), int)]
    got = read(array, chunks, data.draw(st.integers(1, 3)))
    assert_holds(array, numbers, chunks, got)


def test_rows_say_where_chunks_go(folder: Path) -> None:
    array = opened(folder)
    chunks = all_chunks(array)
    rows = np.random.default_rng(2).permutation(len(chunks) + 3)[: len(chunks)]
    out = np.full((len(chunks) + 3, *CHUNK), 77, array.dtype)
    read_ahead(array.pieces(chunks, out, rows))
    assert out[rows].tobytes() == read(array, chunks).tobytes()
    assert (np.delete(out, rows, 0) == 77).all()


@pytest.mark.parametrize("fill", [float("nan"), float("inf"), float("-inf"), 3, -0.0, 0.5])
def test_chunks_never_written_read_as_the_fill_value(tmp_path: Path, fill: float) -> None:
    make(tmp_path, fill_value=fill)
    array = zarr.open_array(tmp_path)
    array[1] = fill  # two shards lose two of their chunks
    array[4:] = fill  # the others lose all
    assert not (tmp_path / LAST_SHARD).exists()
    assert_read(tmp_path, as_zarr_reads(tmp_path))
    out = read(opened(tmp_path), np.array([[1, 0, 1], [5, 1, 0], [2, 0, 1]]))
    assert out[:2].tobytes() == np.full((2, *CHUNK), fill, "float16").tobytes()
    assert np.isfinite(out[2]).all()


@pytest.mark.parametrize(("dtype", "fill"), [("bool", True), ("uint64", 2**64 - 1), ("int8", -128)])
def test_whole_numbers_have_fill_values_too(tmp_path: Path, dtype: str, fill: int) -> None:
    make(tmp_path, dtype=dtype, fill_value=fill)
    shutil.rmtree(tmp_path / "c", ignore_errors=True)  # zarr leaves out what is all fill
    assert_read(tmp_path, np.full(SHAPE, fill, dtype))


def test_a_shard_written_later_is_seen(folder: Path, tmp_path: Path) -> None:
    numbers = as_zarr_reads(folder)
    shutil.move(folder / LAST_SHARD, tmp_path / "later")
    array, chunks = opened(folder), np.array([[6, 1, 1]])
    assert (read(array, chunks) == 0).all()
    shutil.move(tmp_path / "later", folder / LAST_SHARD)
    assert_holds(array, numbers, chunks, read(array, chunks))


def test_a_shard_that_takes_the_place_of_another_is_read_by_its_own_index(folder: Path) -> None:
    array = opened(folder, OpenShards(1))
    first, last = np.array([[1, 0, 0]]), np.array([[6, 1, 1]])
    before = read(array, first)
    read(array, last)  # closes the first
    other = zarr.open_array(folder)
    other[0] = 0  # its chunks go, and all others move
    other[1] = 50
    assert (before != 50).any()
    assert (read(array, first) == 50).all()
    assert (read(array, np.array([[0, 0, 0]])) == 0).all()


def test_an_array_that_is_gone_is_not_read_as_fill_values(folder: Path) -> None:
    array = opened(folder)
    shutil.rmtree(folder)
    with pytest.raises(
        TissueDataError, match=r"c/1/1/0: chunk \(6, 1, 1\) cannot be read \(No such"
    ):
        read(array, np.array([[6, 1, 1]]))


def test_nothing_asked_is_nothing_read(folder: Path) -> None:
    array = opened(folder)
    shutil.rmtree(folder)
    assert read(array, np.zeros((0, 3), int)).shape == (0, *CHUNK)


def ask(
    array: ShardedArray, out: tuple[int, ...], rows: Any, dtype: Any = "float16", count: int = 1
) -> None:
    array.pieces(np.zeros((count, 3), int), np.zeros(out, dtype), np.array(rows))


BAD_CALLS: dict[str, tuple[Callable[[ShardedArray], Any], type[Exception], str]] = {
    "a chunk beyond": (lambda a: read(a, np.array([[7, 0, 0]])), IndexError, "outside the grid"),
    "a chunk before": (lambda a: read(a, np.array([[0, -1, 0]])), IndexError, "outside the grid"),
    "too few axes": (lambda a: read(a, np.array([[0, 0]])), ValueError, "wanted whole"),
    "fractions": (lambda a: read(a, np.zeros((1, 3))), ValueError, "wanted whole"),
    "another type": (lambda a: ask(a, (1, *CHUNK), [0], np.int16), ValueError, "out is int16"),
    "another shape": (lambda a: ask(a, (1, 1, 3, 1), [0]), ValueError, "out is float16"),
    "too few rows": (lambda a: ask(a, (3, *CHUNK), [0], count=2), ValueError, "do not fit"),
    "rows of rows": (lambda a: ask(a, (1, *CHUNK), [[0]]), ValueError, "do not fit"),
    "a row beyond": (lambda a: ask(a, (1, *CHUNK), [1]), ValueError, "do not fit"),
    "a row before": (lambda a: ask(a, (1, *CHUNK), [-1]), ValueError, "do not fit"),
    "gaps": (
        lambda a: a.pieces(
            np.zeros((2, 3), int), np.zeros((4, *CHUNK), a.dtype)[::2], np.arange(2)
        ),
        ValueError,
        "C-contiguous",
    ),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_a_call_that_cannot_be_met(folder: Path, call: str) -> None:
    act, kind, message = BAD_CALLS[call]
    with pytest.raises(kind, match=message):
        act(opened(folder))


def test_systems_that_take_no_advice_read_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    assert_read(folder, as_zarr_reads(folder))


def test_threads_change_nothing(folder: Path) -> None:
    array = opened(folder)
    chunks = np.random.default_rng(3).permutation(np.tile(all_chunks(array), (20, 1)))
    one = read(array, chunks)
    assert read(array, chunks, threads=3).tobytes() == one.tobytes()
    assert read(array, chunks[:2], threads=64).tobytes() == one[:2].tobytes()
