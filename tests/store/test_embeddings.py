"""Stored features read back: bit for bit in every way, and each damage in one line."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import zarr
from stored_features import DIGESTS, GRID, SPEC, made_up, make_store, publish

from tissueseg.errors import TissueDataError, TissuesegError
from tissueseg.store import embedding_writer
from tissueseg.store.embedding_writer import EmbeddingWriter
from tissueseg.store.embeddings import EmbeddingStore, Request
from tissueseg.store.fingerprint import fingerprint
from tissueseg.store.open_shards import Shard
from tissueseg.store.shards import ShardedArray

SIZES = {"a": 7, "b.1": 3, "claims": 1}  # tiles; shards of two
WAYS = ("direct", "zstd", "through zarr")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two tiles of 16 bits, one of 32."""
    monkeypatch.setattr(embedding_writer, "SHARD_BYTES", 2 * 3 * 2 * int(np.prod(GRID)))


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """A store of three tissues at tmp_path / "s.zarr"; returns what was put in."""

    def make(dtype: str = "float16", codec: str = "none") -> dict[str, np.ndarray]:
        store = make_store(tmp_path / "s.zarr", dtype)
        put = {name: made_up(store, n, seed) for seed, (name, n) in enumerate(SIZES.items())}
        with EmbeddingWriter(store, codec) as writer:
            for name, features in put.items():
                publish(writer, name, features)
        return put

    return make


@pytest.fixture(params=WAYS)
def way(
    request: pytest.FixtureRequest,
    fill: Callable[..., dict[str, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Each way a store is read, of which only the one named can be taken."""
    fill(codec="zstd" if request.param == "zstd" else "none")
    if request.param == "direct":
        monkeypatch.delattr(zarr.Array, "__getitem__")
    else:
        monkeypatch.delattr(Shard, "read")
    if request.param == "through zarr":
        monkeypatch.setattr(ShardedArray, "open", lambda *_: None)
    return request.param


def mixed(seed: int = 0) -> list[Request]:
    """Every tile and view of every tissue twice, in any order."""
    every = [Request(t, i, v) for t, n in SIZES.items() for i in range(n) for v in range(3)]
    order = np.random.default_rng(seed).permutation(np.tile(np.arange(len(every)), 2))
    return [every[i] for i in order]


def read(store: EmbeddingStore, requests: Sequence[Request]) -> np.ndarray:
    kind = {"bfloat16": "uint16"}.get(store.dtype, store.dtype)
    out = np.full((len(requests), *store.grid), 77, kind)
    store.read(requests, out)
    return out


def wanted(put: dict[str, np.ndarray], requests: Sequence[Request]) -> np.ndarray:
    return np.stack([put[r.tissue][r.tile, r.view] for r in requests])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_mixed_batch_is_what_was_put_in_bit_for_bit(fill, tmp_path, dtype, codec, threads):
    put, requests = fill(dtype, codec), mixed()
    store = EmbeddingStore(tmp_path / "s.zarr", threads)
    assert read(store, requests).tobytes() == wanted(put, requests).tobytes()


def test_all_ways_read_alike(way, tmp_path):
    store = EmbeddingStore(tmp_path / "s.zarr")
    put = {name: made_up(store, n, seed) for seed, (name, n) in enumerate(SIZES.items())}
    assert read(store, mixed()).tobytes() == wanted(put, mixed()).tobytes()


def test_few_requests_and_none(fill, tmp_path):
    put, store = fill(), EmbeddingStore(tmp_path / "s.zarr", threads=5)
    for count in (1, 2, 6):
        assert np.array_equal(read(store, mixed()[:count]), wanted(put, mixed()[:count]))
    assert read(store, []).shape == (0, *GRID)


def test_it_says_what_it_holds(fill, tmp_path):
    fill("bfloat16")
    store = EmbeddingStore(f"{tmp_path}/s.zarr/")
    assert (store.name, store.views, store.dtype, store.grid) == ("s.zarr", 3, "bfloat16", GRID)
    assert (store.spec, store.made) == (SPEC, {"by": "a test"})
    assert store.fingerprint == fingerprint(store.fields)
    assert [store.tiles(t) for t in SIZES] == [7, 3, 1]
    assert [store.shard_tiles(t) for t in SIZES] == [2, 2, 1]


def test_a_copy_in_another_process_reads_the_same(fill, tmp_path):
    fill()
    store = EmbeddingStore(tmp_path / "s.zarr", threads=3)
    before = read(store, mixed())  # opens files and threads
    assert np.array_equal(read(pickle.loads(pickle.dumps(store)), mixed()), before)


def read_in_child(store: EmbeddingStore, pipe: Any) -> None:
    pipe.send(read(store, mixed()).tobytes())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork_with_threads_and_files_open(fill, tmp_path):
    put = fill()
    store = EmbeddingStore(tmp_path / "s.zarr", threads=3)
    read(store, mixed())
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=read_in_child, args=(store, there))
    child.start()
    try:
        assert here.poll(30)
        assert here.recv() == wanted(put, mixed()).tobytes()
    finally:
        child.join(30)
        child.kill()
    assert child.exitcode == 0


def refused(store: EmbeddingStore, requests: Sequence[Request]) -> str:
    with pytest.raises(TissuesegError) as caught:
        read(store, requests)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_shard_that_is_gone_is_refused_and_named(way, tmp_path):
    path = tmp_path / "s.zarr"
    (path / "a/c/1/0/0/0/0/0").unlink()  # tiles 2 and 3
    message = refused(EmbeddingStore(path), [Request("a", 1, 0), Request("a", 3, 2)])
    assert message.startswith("tissue a: features cannot be read: tile 3, view 2 is missing")
    assert message.endswith(f"Remove {path}/a and embed again.")
    read(EmbeddingStore(path), [Request("a", 1, 0), Request("a", 4, 2)])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_chunk_that_was_never_written_is_refused(tmp_path, dtype, codec):
    store = make_store(tmp_path / "s.zarr", dtype)
    with EmbeddingWriter(store, codec) as writer:
        attempt = writer.begin("a", 4)
        attempt.put(0, made_up(store, 4)[: writer.block_shape(4)[0] - (dtype != "float32")])
        attempt.publish(DIGESTS).result()
    gone = Request("a", 1, 1)
    message = refused(EmbeddingStore(store.path), [Request("a", 0, 0), gone])
    assert "tissue a: features cannot be read: tile 1, view 1 is missing" in message
    assert f"Remove {store.path}/a and" in message


def test_a_flipped_byte_names_the_chunk_and_its_shard(way, tmp_path):
    shard = tmp_path / "s.zarr/b.1/c/0/0/0/0/0/0"
    data = bytearray(shard.read_bytes())
    data[0] ^= 16
    shard.write_bytes(data)
    store = EmbeddingStore(tmp_path / "s.zarr")
    broken = [v for v in range(3) for t in range(2) if not is_read(store, Request("b.1", t, v))]
    assert len(broken) == 1
    every = [Request("b.1", t, v) for t in range(2) for v in range(3)]
    message = refused(store, every)
    assert message.startswith("tissue b.1: features cannot be read: ")
    assert "checksum" in message
    assert message.endswith(f"Remove {tmp_path}/s.zarr/b.1 and embed again.")
    named = f"{shard}: chunk (0, 0, 0, 0, 0, 0)" if way == "direct" else f"view {broken[0]} cannot"
    assert named in message


def test_nobody_writes_into_the_batch_once_damage_is_reported(fill, tmp_path, monkeypatch):
    fill()
    path, damaged, ended = tmp_path / "s.zarr", threading.Event(), []
    (path / "a/c/0/0/0/0/0/0").write_bytes(b"")
    read_part = EmbeddingStore._read_part

    def read_late(store, part, requests, out):
        if 0 in part:
            try:
                return read_part(store, part, requests, out)
            finally:
                damaged.set()
        assert damaged.wait(30)
        sleep(0.05)  # time enough to be too late
        read_part(store, part, requests, out)
        ended.append(part)

    monkeypatch.setattr(EmbeddingStore, "_read_part", read_late)
    requests = [Request("a", 0, 0), Request("a", 4, 0), Request("b.1", 0, 0)]
    assert "tissue a: " in refused(EmbeddingStore(path, threads=3), requests)
    assert sorted(ended) == [[1], [2]]


def is_read(store: EmbeddingStore, request: Request) -> bool:
    try:
        return bool(np.isfinite(read(store, [request])).all())
    except TissueDataError:
        return False


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_tissue_that_is_gone_is_no_features_of_zeros(fill, tmp_path, codec):
    fill(codec=codec)
    store, one = EmbeddingStore(tmp_path / "s.zarr"), [Request("a", 6, 0)]
    other = refused(store, [Request("d", 0, 0)])
    assert other == f"{tmp_path}/s.zarr has no features of tissue d: embed it first."
    store.tiles("a")  # opens it
    shutil.rmtree(tmp_path / "s.zarr/a")
    assert "tissue a was replaced or removed while it was being read" in refused(store, one)
    assert "has no features of tissue a" in refused(EmbeddingStore(store.path), one)


def test_a_tile_beyond_the_array_is_our_mistake_not_the_users(way, tmp_path):
    store = EmbeddingStore(tmp_path / "s.zarr")
    with pytest.raises(IndexError):
        read(store, [Request("a", 7, 0)])
