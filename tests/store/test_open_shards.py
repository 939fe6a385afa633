"""Files of shards: every damage has one line that names file and chunk, and few files stay open."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_arrays import (
    LAST_CHUNKS,
    LAST_SHARD,
    all_chunks,
    as_zarr_reads,
    assert_holds,
    make,
    opened,
    read,
)

from tissueseg.errors import TissueDataError
from tissueseg.store import open_shards
from tissueseg.store.open_shards import OpenShards, Shard
from tissueseg.store.shard_layout import ShardLayout
from tissueseg.store.shards import ShardedArray


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path / "array")
    return tmp_path / "array"


def chunk_place(path: Path, place: int, n: int = 8) -> int:
    """Offset of a chunk, from an index of `n` at the end of the file."""
    index = np.frombuffer(path.read_bytes()[-16 * n - 4 : -4], "<u8").reshape(n, 2)
    return int(index[place, 0])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_any_flipped_byte_is_found_and_named(folder: Path) -> None:
    path = folder / LAST_SHARD
    sound, whole = path.read_bytes(), read(opened(folder), LAST_CHUNKS)
    for at in range(len(sound)):
        flip(path, at)
        array = opened(folder)
        with pytest.raises(TissueDataError) as caught:
            assert read(array, LAST_CHUNKS).tobytes() != whole.tobytes()
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{path}: chunk (")
        assert "does not match its checksum: the file is damaged." in message
        if at < len(sound) - 8 * 16 - 4:
            named = next(c for c in LAST_CHUNKS if f"chunk {tuple(c.tolist())} does" in message)
            start = chunk_place(path, (named[0] - 4) * 2 + named[2])
            assert start <= at < start + 10  # 3 numbers of 2 bytes, 4 of crc32c
        else:
            assert "chunk (4, 1, 0) cannot be found, as the index does not" in message
        path.write_bytes(sound)


def test_other_chunks_of_a_damaged_shard_can_be_read(folder: Path) -> None:
    numbers = as_zarr_reads(folder)
    path = folder / LAST_SHARD
    flip(path, chunk_place(path, 3))
    array, sound = opened(folder), np.array([[5, 1, 0], [6, 1, 1]])
    assert_holds(array, numbers, sound, read(array, sound))
    with pytest.raises(TissueDataError, match=r"chunk \(5, 1, 1\)"):
        read(array, np.array([[5, 1, 1]]))


@pytest.mark.parametrize("location", ["start", "end"])
def test_a_file_cut_short_anywhere_is_found(tmp_path: Path, location: str) -> None:
    make(tmp_path, location=location)
    path = tmp_path / LAST_SHARD
    sound = path.read_bytes()
    for size in range(len(sound)):
        path.write_bytes(sound[:size])
        with pytest.raises(
            TissueDataError, match=r"c/1/1/0: chunk \([456], 1, [01]\) .* is damaged"
        ):
            read(opened(tmp_path), LAST_CHUNKS)


def test_an_empty_file_says_so(folder: Path) -> None:
    (folder / LAST_SHARD).write_bytes(b"")
    with pytest.raises(
        TissueDataError, match=r"0: chunk \(6, 1, 0\) .* the file ends after 0 bytes"
    ):
        read(opened(folder), np.array([[0, 0, 0], [6, 1, 0]]))


def test_a_file_cut_short_while_it_is_open(folder: Path) -> None:
    array, chunks = opened(folder), np.array([[6, 1, 0]])
    read(array, chunks)
    os.truncate(folder / LAST_SHARD, 5)
    with pytest.raises(TissueDataError, match=r"chunk \(6, 1, 0\) reaches beyond the end"):
        read(array, chunks)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((0, offset) for offset in (159, 2**63 - 1, 2**63, 2**64 - 7, 2**64 - 1)),
        *((1, length) for length in (0, 5, 7, 2**63 + 6, 2**64 - 1)),
    ],
)
def test_places_no_chunk_can_have(tmp_path: Path, column: int, value: int, location: str) -> None:
    """Without checksums, so that nothing else could find them: 164 bytes, 6 for each chunk."""
    make(tmp_path, checksums=(False, False), location=location)
    path = tmp_path / LAST_SHARD
    whole, data = read(opened(tmp_path), LAST_CHUNKS), np.fromfile(path, np.uint8)
    index = data[:128] if location == "start" else data[-128:]
    index.view("<u8")[2 * 5 + column] = value
    data.tofile(path)
    with pytest.raises(TissueDataError, match=r"chunk \(6, 1, 1\) has an offset or a length"):
        read(opened(tmp_path), LAST_CHUNKS[-1:])
    assert read(opened(tmp_path), LAST_CHUNKS[:-1]).tobytes() == whole[:-1].tobytes()


def test_a_file_that_may_not_be_read_says_why(folder: Path) -> None:
    (folder / LAST_SHARD).unlink()
    (folder / LAST_SHARD).mkdir()  # permissions do not stop the administrator
    with pytest.raises(
        TissueDataError, match=r"chunk \(6, 1, 0\) cannot be read \(Is a directory\)"
    ):
        read(opened(folder), np.array([[6, 1, 0]]))


@pytest.mark.parametrize("shard", ["c/0/0/0", "c/0/1/0", "c/1/0/0", "c/1/1/0"])
def test_damage_is_found_wherever_it_is(folder: Path, shard: str) -> None:
    flip(folder / shard, 0)
    with pytest.raises(TissueDataError, match=rf"{shard}: chunk .* does not match its checksum"):
        read(opened(folder), all_chunks(opened(folder)), threads=3)


def open_below(folder: Path) -> int:
    """Files of a folder that this process holds open."""
    links = list(Path("/proc/self/fd").iterdir())
    return sum(link.exists() and folder in link.readlink().parents for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_more_shards_than_may_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_shards, "_KEPT_INDICES", 5)
    shared = OpenShards(3)
    for name in "ab":  # which keep one limit together
        numbers = make(tmp_path / name, (40, 3), (1, 3), (1, 1))
        array = opened(tmp_path / name, shared)
        chunks = np.random.default_rng(4).permutation(np.tile(all_chunks(array), (3, 1)))
        for threads in (1, 3):
            assert_holds(array, numbers, chunks, read(array, chunks, threads))
            assert open_below(tmp_path) == 3
    del array, shared
    assert open_below(tmp_path) == 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_a_shard_that_threads_open_at_the_same_time_stays_open_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, barrier, opened_files = OpenShards(), threading.Barrier(3), []

    def open_together(path: str) -> Shard:
        shard = Shard(path)
        barrier.wait(30)
        opened_files.append(open_below(folder))
        barrier.wait(30)
        return shard

    monkeypatch.setattr(open_shards, "Shard", open_together)
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(shared.open, [str(folder / LAST_SHARD)] * 3))
    assert opened_files == [3] * 3
    assert got[0] is got[1] is got[2]
    assert open_below(folder) == 1


def test_threads_that_share_few_files_do_not_close_each_other_s(tmp_path: Path) -> None:
    numbers = make(tmp_path, (24, 3), (1, 3), (1, 1))
    array = opened(tmp_path, OpenShards(1))

    def read_all(seed: int) -> None:
        for _ in range(5):
            chunks = np.random.default_rng(seed).permutation(all_chunks(array))
            assert_holds(array, numbers, chunks, read(array, chunks))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_all, range(8)))


def test_an_index_is_looked_at_once_and_a_shard_once_per_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, files, find, open_file = [], [], Shard.starts, OpenShards.open

    def count(shard: Shard, layout: ShardLayout) -> np.ndarray:
        looked.append(shard.version.path)
        return find(shard, layout)

    def count_files(shards: OpenShards, path: str) -> Shard:
        files.append(path)
        return open_file(shards, path)

    monkeypatch.setattr(Shard, "starts", count)
    monkeypatch.setattr(OpenShards, "open", count_files)
    array = opened(folder, OpenShards(1))  # files are closed meanwhile
    for seed in range(3):
        read(array, np.random.default_rng(seed).permutation(all_chunks(array)))
    assert len(looked) == len(set(looked)) == 4
    assert len(files) == 3 * 4


def test_after_a_pickle(folder: Path) -> None:
    array = opened(folder)
    chunks = all_chunks(array)
    wanted = read(array, chunks, threads=2)
    assert read(pickle.loads(pickle.dumps(array)), chunks, threads=2).tobytes() == wanted.tobytes()


def read_in_child(array: ShardedArray, chunks: np.ndarray, pipe: Any) -> None:
    pipe.send(read(array, chunks, threads=2).tobytes())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork_with_files_open(folder: Path) -> None:
    array = opened(folder)
    chunks = all_chunks(array)
    wanted = read(array, chunks, threads=2).tobytes()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=read_in_child, args=(array, chunks, there))
    child.start()
    try:
        assert here.poll(30)
        assert here.recv() == wanted
    finally:
        child.join(30)
        child.kill()
    assert child.exitcode == 0
    assert read(array, chunks, threads=2).tobytes() == wanted
