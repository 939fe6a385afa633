"""Stores behind an address: read as from a disk, and what is not there told from what does not answer."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from aiohttp import ClientTimeout
from file_server import FileServer, serving
from fsspec.implementations.memory import MemoryFileSystem
from stored_features import DIGESTS, GRID, made_up, make_store, publish
from stores import three_tissues, whole, write_store
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

from tissueseg.contracts import Modality
from tissueseg.errors import (
    ConfigError,
    StoreNotFoundError,
    TissueDataError,
    TissuesegError,
    UnreachableError,
)
from tissueseg.store import embedding_writer
from tissueseg.store.embedding_writer import EmbeddingWriter
from tissueseg.store.embeddings import EmbeddingStore, Request, State
from tissueseg.store.remote import connect
from tissueseg.store.tissues import TissueStore

TILES = {"a": 9, "b": 4}
REQUESTS = [Request("b", 3, 2), Request("a", 8, 0), Request("a", 0, 1), Request("b", 0, 0)]


@pytest.fixture(params=["none", "zstd"])
def codec(request: pytest.FixtureRequest) -> str:
    return request.param


def write_features(path: Path, monkeypatch: pytest.MonkeyPatch, codec: str = "none") -> Path:
    """Two tissues in shards of two tiles."""
    tile_bytes = 3 * int(np.prod(GRID)) * 2
    monkeypatch.setattr(embedding_writer, "SHARD_BYTES", 2 * tile_bytes)
    store = make_store(path)
    with EmbeddingWriter(store, codec) as writer:
        for seed, (tissue, tiles) in enumerate(TILES.items()):
            publish(writer, tissue, made_up(store, tiles, seed))
    return path


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_features(tmp_path / "features.zarr", monkeypatch)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def read(store: EmbeddingStore, requests: list[Request] = REQUESTS) -> np.ndarray:
    out = np.empty((len(requests), *store.grid), np.float16)
    store.read(requests, out)
    return out


def assert_alike(found: EmbeddingStore, wanted: EmbeddingStore) -> None:
    np.testing.assert_array_equal(read(found), read(wanted))
    assert (found.name, found.fields, found.spec) == (wanted.name, wanted.fields, wanted.spec)
    assert {t: found.tiles(t) for t in TILES} == TILES
    assert found.shard_tiles("a") == wanted.shard_tiles("a") == 2


def assert_states(store: EmbeddingStore) -> None:
    assert store.state("a", DIGESTS) == State.COMPLETE
    assert store.state("a", DIGESTS | {"he": "other"}) == State.STALE
    assert store.state("z", DIGESTS) == State.MISSING


def test_features_over_http_are_those_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer, codec: str
) -> None:
    path = write_features(tmp_path / "features.zarr", monkeypatch, codec)
    store = EmbeddingStore(f"{server.url}/features.zarr")
    assert_states(store)
    assert_alike(store, EmbeddingStore(path))
    assert_alike(EmbeddingStore(f"{server.url}/features.zarr/"), EmbeddingStore(path))


def test_features_in_memory_are_those_on_disk(features: Path, memory: MemoryFileSystem) -> None:
    memory.put(str(features), "/here/features.zarr", recursive=True)
    store = EmbeddingStore("memory://here/features.zarr")
    assert_states(store)
    assert_alike(store, EmbeddingStore(features))


def test_a_batch_asks_for_all_its_tiles_at_once(features: Path, server: FileServer) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    requests = [Request("a", tile, 0) for tile in range(8)]
    store.tiles("a")
    together, met = threading.Barrier(len(requests)), []

    def wait(path: str) -> None:
        together.wait(20)  # breaks unless all are under way
        met.append(path)

    server.before = wait
    np.testing.assert_array_equal(read(store, requests), read(EmbeddingStore(features), requests))
    assert len(met) == 2 * len(requests)  # a chunk, and before it where it lies


def test_what_an_error_leaves_can_be_read_again(features: Path, server: FileServer) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    server.faults = {"a/c/4": 503}
    with pytest.raises(UnreachableError):
        read(store)
    server.faults = {}
    np.testing.assert_array_equal(read(store), read(EmbeddingStore(features)))


def refused(action: Callable[[], object]) -> TissuesegError:
    """What it says, in one line."""
    with pytest.raises(TissuesegError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return caught.value


FAULTS = {
    401: "/zarr.json may not be read, or is not there in a store that may not be listed (401",
    403: "/zarr.json may not be read, or is not there in a store that may not be listed (403",
    500: "/zarr.json cannot be reached (500",
    503: "/zarr.json cannot be reached (503",
}


@pytest.mark.parametrize("status", FAULTS)
@pytest.mark.parametrize("kind", [EmbeddingStore, TissueStore])
def test_a_server_that_refuses_is_no_missing_store(
    features: Path, server: FileServer, status: int, kind: Callable[[str], object]
) -> None:
    server.faults = {"features.zarr": status}
    error = refused(lambda: kind(f"{server.url}/features.zarr"))
    assert isinstance(error, UnreachableError)
    assert f"{server.url}/features.zarr{FAULTS[status]}" in str(error)


@pytest.mark.parametrize("kind", [EmbeddingStore, TissueStore])
def test_a_server_that_is_down_is_no_missing_store(
    server: FileServer, kind: Callable[[str], object]
) -> None:
    server.stop()
    error = refused(lambda: kind(f"{server.url}/features.zarr"))
    assert isinstance(error, UnreachableError)
    assert "/features.zarr/zarr.json cannot be reached (Cannot connect to host" in str(error)


def test_a_server_that_is_silent_is_waited_for_as_fsspec_is_told(
    features: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"client_kwargs": {"timeout": ClientTimeout(total=0.1)}}
    monkeypatch.setitem(fsspec.config.conf, "http", options)
    done = threading.Event()
    server.before = lambda path: done.wait(20) and None
    error = refused(lambda: EmbeddingStore(f"{server.url}/features.zarr"))
    done.set()
    assert isinstance(error, UnreachableError)
    assert "cannot be reached (TimeoutError)" in str(error)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (EmbeddingStore, "no stored features at {0}/ itself: name the store"),
        (TissueStore, "{0} is not a tissue store"),
    ],
)
def test_a_folder_of_a_server_is_no_store(
    features: Path, server: FileServer, kind: Callable[[str], object], said: str
) -> None:
    error = refused(lambda: kind(f"{server.url}/"))
    assert isinstance(error, StoreNotFoundError)
    assert said.format(server.url) in str(error)


def test_tissues_that_cannot_be_asked_for_are_not_missing(
    features: Path, server: FileServer
) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    server.faults = {"features.zarr/a/": 503}
    assert store.state("b", DIGESTS) == State.COMPLETE
    error = refused(lambda: store.state("a", DIGESTS))
    assert isinstance(error, UnreachableError)
    assert f"{store.path}/a/zarr.json cannot be reached" in str(error)


def test_the_states_of_many_tissues_are_asked_for_at_once(
    features: Path, server: FileServer
) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    together = threading.Barrier(3)
    server.before = lambda path: together.wait(20) and None  # breaks unless all are under way
    changed = {"a": DIGESTS, "b": DIGESTS | {"he": "other"}, "z": DIGESTS}
    found = store.states(changed)
    assert found == {"a": State.COMPLETE, "b": State.STALE, "z": State.MISSING}
    assert list(found) == list(changed)


def test_one_tissue_that_cannot_be_asked_for_is_not_missing_among_many(
    features: Path, server: FileServer
) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    server.faults = {"features.zarr/b/": 503}
    assert isinstance(refused(lambda: store.states(dict.fromkeys("ab", DIGESTS))), UnreachableError)


def test_what_is_complete_is_not_asked_for_again_to_be_read(
    features: Path, server: FileServer
) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    store.states(dict.fromkeys(TILES, DIGESTS))
    server.faults = {"zarr.json": 503}
    np.testing.assert_array_equal(read(store), read(EmbeddingStore(features)))


def test_a_server_that_goes_down_while_it_is_read(features: Path, server: FileServer) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    read(store)
    server.stop()
    error = refused(lambda: read(store, [Request("b", 3, 0)]))
    assert isinstance(error, UnreachableError)
    assert f"{store.path}/b/c/1/0/0/0/0/0 cannot be reached" in str(error)


def test_a_server_that_sends_only_whole_files(features: Path, server: FileServer) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    server.ranges = False
    error = refused(lambda: read(store))
    assert isinstance(error, UnreachableError)
    assert "comes whole where a part was asked for" in str(error)


def flip(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (flip, "cannot be read (Stored and computed checksum do not match"),
    "an index cut off": (lambda p: p.write_bytes(p.read_bytes()[:-9]), "cannot be read ("),
    "an empty file": (lambda p: p.write_bytes(b""), "cannot be read ("),
    "no file": (Path.unlink, "is missing: a file of it is gone"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("protocol", ["http", "memory"])
def test_damaged_features_are_named(
    features: Path, server: FileServer, memory: MemoryFileSystem, damage: str, protocol: str
) -> None:
    spoil, said = DAMAGE[damage]
    spoil(features / "a" / "c" / "4" / "0" / "0" / "0" / "0" / "0")
    memory.put(str(features), "/features.zarr", recursive=True)
    address = {"http": server.url, "memory": "memory:/"}[protocol]
    store = EmbeddingStore(f"{address}/features.zarr")
    error = refused(lambda: read(store, [Request("b", 0, 0), Request("a", 8, 0)]))
    assert isinstance(error, TissueDataError)
    assert "tissue a: features cannot be read: tile 8, view 0 " in str(error)
    assert said in str(error)
    assert f"Remove {store.path}/a and embed again" in str(error)


MISSING = {
    "s3fs": ("s3://bucket/features.zarr", "Install s3fs to access S3"),
    "gcsfs": ("gs://bucket/features.zarr", "Please install gcsfs"),
    "fsspec": ("memory://features.zarr", "fsspec"),
}


@pytest.mark.parametrize("package", MISSING)
@pytest.mark.parametrize("kind", [EmbeddingStore, TissueStore])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, kind: Callable[[str], object]
) -> None:
    address, said = MISSING[package]
    monkeypatch.setitem(sys.modules, package, None)
    error = refused(lambda: kind(address))
    assert str(error).startswith(f"{address} cannot be opened (")
    assert said in str(error)
    assert "pip install 'tissueseg[remote]'" in str(error)


def test_a_protocol_that_nobody_knows() -> None:
    error = refused(lambda: EmbeddingStore("gopher://host/features.zarr"))
    assert "gopher://host/features.zarr cannot be opened (Protocol not known: gopher)" in str(error)


def test_a_pickled_store_reads(features: Path, server: FileServer) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    wanted = read(store)
    np.testing.assert_array_equal(read(pickle.loads(pickle.dumps(store))), wanted)


def read_in_child(store: EmbeddingStore, pipe: Any) -> None:
    pipe.send(read(store).tobytes())
    gc.collect()  # what it inherited and has no use for


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_reads_and_leaves_the_parent_its_connections(
    features: Path, server: FileServer
) -> None:
    store = EmbeddingStore(f"{server.url}/features.zarr")
    wanted = read(store).tobytes()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=read_in_child, args=(store, there))
    child.start()
    try:
        assert here.poll(30)
        assert here.recv() == wanted
    finally:
        child.join(30)
        child.kill()
    assert child.exitcode == 0
    again: list[bytes] = []
    reader = threading.Thread(target=lambda: again.append(read(store).tobytes()), daemon=True)
    reader.start()
    reader.join(30)  # for ever, had the child closed what it inherited
    assert again == [wanted]


@pytest.fixture
def cohort(tmp_path: Path) -> TissueStore:
    return write_store(tmp_path / "cohort.zarr", three_tissues())


@pytest.mark.parametrize("protocol", ["http", "memory"])
def test_tissues_behind_an_address_are_those_on_disk(
    cohort: TissueStore, server: FileServer, memory: MemoryFileSystem, protocol: str
) -> None:
    memory.put(str(cohort.path), "/cohort.zarr", recursive=True)
    address = {"http": server.url, "memory": "memory:/"}[protocol]
    store = TissueStore(f"{address}/cohort.zarr")
    assert store.address == store.location == f"{address}/cohort.zarr"
    assert TissueStore(f"{address}/cohort.zarr/").address == store.address
    assert (store.tissues, store.panel, store.mpp) == (cohort.tissues, cohort.panel, cohort.mpp)
    assert store.attributes("b") == cohort.attributes("b")
    store.check_arrays(store.tissues, Modality.HE_SP)
    for array in ("he", "sp", "instances", "classes"):
        np.testing.assert_array_equal(whole(store, "b", array), whole(cohort, "b", array))
    copied = pickle.loads(pickle.dumps(store))
    assert copied.address == store.address
    np.testing.assert_array_equal(whole(copied, "c", "he"), whole(cohort, "c", "he"))


def test_damaged_tissues_are_told_from_a_server_that_fails(
    cohort: TissueStore, server: FileServer
) -> None:
    store = TissueStore(f"{server.url}/cohort.zarr")
    (cohort.path / "b" / "sp" / "0" / "zarr.json").unlink()
    error = refused(lambda: store.check_arrays(store.tissues, Modality.SP))
    assert "cohort.zarr is damaged: tissue b has no sp that can be read" in str(error)
    store.check_arrays(store.tissues, Modality.HE)
    (cohort.path / "a" / "he" / "0" / "c" / "0" / "0" / "0").write_bytes(b"cut short")
    assert isinstance(refused(lambda: whole(store, "a", "he")), TissueDataError)
    server.faults = {"cohort.zarr/c": 503}
    for action in (
        lambda: store.check_arrays(["c"], Modality.HE),
        lambda: store.attributes("c"),
        lambda: whole(store, "c", "he"),
    ):
        assert isinstance(refused(action), UnreachableError)


def test_a_store_on_a_server_has_no_path(cohort: TissueStore, server: FileServer) -> None:
    store = TissueStore(f"{server.url}/cohort.zarr")
    error = refused(lambda: store.path)
    assert isinstance(error, ConfigError)
    said = "is remote, but this works with local stores only: copy the store to a disk."
    assert str(error) == f"{server.url}/cohort.zarr {said}"


def test_a_store_on_a_disk_has_a_path_and_is_found_again_from_elsewhere(
    cohort: TissueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cohort.path.parent)
    store = TissueStore("./cohort.zarr/")
    assert (store.address, store.path) == ("cohort.zarr", Path("cohort.zarr"))
    assert store.location == str(cohort.path.resolve())
    assert connect(store.address) is None


def test_addresses_in_one_another_are_shown_as_they_are() -> None:
    address = "zip://a.zip::gopher://host/b"
    assert f"{address} cannot be opened (" in str(refused(lambda: TissueStore(address)))


def test_several_parts_are_read_at_once(memory: MemoryFileSystem) -> None:
    memory.pipe("/store/key", b"0123456789")
    store = connect("memory://store")
    assert store is not None
    wanted = [("key", RangeByteRequest(2, 4)), ("none", None), ("key", SuffixByteRequest(3))]
    found = asyncio.run(store.get_partial_values(default_buffer_prototype(), wanted))
    assert [part and part.to_bytes() for part in found] == [b"23", None, b"789"]
