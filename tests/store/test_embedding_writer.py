"""Features written: a tissue appears whole or not at all, whoever dies, takes over or fills the disk."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_features import (
    DIGESTS,
    GRID,
    left_beside,
    made_up,
    make_store,
    publish,
    stored,
    tissues,
)

from tissueseg.errors import ConfigError, StoreWriteError
from tissueseg.store import embedding_writer, shard_file
from tissueseg.store.embedding_writer import Attempt, EmbeddingWriter, work_folder
from tissueseg.store.embeddings import EmbeddingStore, State

TILE_BYTES = 3 * 2 * int(np.prod(GRID))  # of 16 bits, in three views


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_writer, "SHARD_BYTES", 2 * TILE_BYTES + 1)  # two tiles


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return make_store(tmp_path / "s.zarr")


def begin(writer: EmbeddingWriter, tissue: str, tiles: int) -> Attempt:
    attempt = writer.begin(tissue, tiles)
    assert attempt is not None
    return attempt


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ["a", "claims", "tissues", "b.1.claim", "Gewebe µ", "a.zarr"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_tissue_appears_whole_whatever_it_is_called(store, name, codec):
    features = made_up(store, 5)
    with EmbeddingWriter(store, codec) as writer:
        attempt = begin(writer, name, 5)
        for number, first in enumerate((0, 2, 4)):
            attempt.put(number, features[first : first + 2]).result()
            assert store.state(name, DIGESTS) == State.MISSING
            assert tissues(store) == []
        attempt.publish(DIGESTS).result()
        assert store.state(name, DIGESTS) == State.COMPLETE
        assert writer.written.bytes == features.nbytes
        assert writer.written.seconds > 0
    assert np.array_equal(stored(store, name), features)
    assert (tissues(store), left_beside(store)) == ([name], [])


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_two_attempts_leave_the_same_files_byte_for_byte(tmp_path, codec):
    made = []
    for name in ("one.zarr", "two.zarr"):
        store = make_store(tmp_path / name)
        with EmbeddingWriter(store, codec) as writer:
            publish(writer, "a", made_up(store, 5))
        made.append(files(tmp_path / name))
    assert made[0] == made[1]
    assert sorted(made[0]) == [
        *(f"a/c/{n}/0/0/0/0/0" for n in range(3)),
        "a/zarr.json",
        "zarr.json",
    ]


def test_blocks_are_as_many_tiles_as_fit_in_a_shard(store, monkeypatch):
    with EmbeddingWriter(store) as writer:
        shapes = [writer.block_shape(n) for n in (1, 2, 9)]  # no more than the tissue has
        assert shapes == [(n, 3, *GRID) for n in (1, 2, 2)]
        monkeypatch.setattr(embedding_writer, "SHARD_BYTES", TILE_BYTES - 1)
        assert writer.block_shape(9)[0] == 1  # a tile larger than a shard has one of its own
    wide = make_store(Path(store.path).with_name("wide.zarr"), "float32")
    monkeypatch.setattr(embedding_writer, "SHARD_BYTES", 4 * TILE_BYTES)
    with EmbeddingWriter(wide) as writer:
        assert writer.block_shape(9)[0] == 2


def test_what_is_discarded_leaves_nothing_and_may_be_begun_again(store):
    with EmbeddingWriter(store) as writer:
        attempt = begin(writer, "a", 5)
        attempt.put(0, made_up(store, 2))
        attempt.discard()
        assert (tissues(store), left_beside(store)) == ([], [])
        attempt.discard()  # again is harmless
        publish(writer, "a", made_up(store, 5))
    assert store.state("a", DIGESTS) == State.COMPLETE


def test_what_is_published_cannot_be_discarded(store):
    with EmbeddingWriter(store) as writer:
        attempt = begin(writer, "a", 1)
        attempt.put(0, made_up(store, 1))
        attempt.publish(DIGESTS).result()
        again = begin(writer, "a", 1)  # as a worker does that sees it stale
        attempt.discard()
        again.put(0, made_up(store, 1, seed=1)).result()
        again.publish(DIGESTS).result()
    assert np.array_equal(stored(store, "a"), made_up(store, 1, seed=1))


def test_one_worker_at_a_time(store):
    with EmbeddingWriter(store) as one, EmbeddingWriter(store) as two:
        attempt = begin(one, "a", 1)
        assert two.begin("a", 1) is None
        assert one.begin("a", 1) is None
        attempt.discard()
        begin(two, "a", 1).discard()


def take_over(store: EmbeddingStore) -> None:
    """Make a worker's claim that of one that died."""
    (claim,) = (work_folder(Path(store.path)) / "claims/a").glob("*.claim")
    claim.write_text("{}")
    os.utime(claim, (0, 0))


@pytest.mark.parametrize("ending", ["publish", "discard"])
def test_a_worker_that_lost_its_claim_publishes_nothing_and_spares_the_other(store, ending):
    mine, yours = made_up(store, 4, seed=1), made_up(store, 4, seed=2)
    with EmbeddingWriter(store) as slow, EmbeddingWriter(store) as fast:
        late = begin(slow, "a", 4)
        late.put(0, mine[:2]).result()
        take_over(store)
        other = begin(fast, "a", 4)
        other.put(0, yours[:2]).result()
        late.put(1, mine[2:]).result()
        late.publish(DIGESTS).result() if ending == "publish" else late.discard()
        assert store.state("a", DIGESTS) == State.MISSING
        other.put(1, yours[2:]).result()
        other.publish(DIGESTS).result()
    assert np.array_equal(stored(store, "a"), yours)
    assert left_beside(store) == []


def test_what_a_worker_that_died_has_left_is_removed_by_the_next(store):
    left = work_folder(Path(store.path)) / "tissues" / "a" / "dead"
    left.mkdir(parents=True)
    (left / "zarr.json").write_text("{")
    with EmbeddingWriter(store) as writer:
        publish(writer, "a", made_up(store, 3))
    assert left_beside(store) == []


def test_a_stale_tissue_stays_until_the_new_one_takes_its_place(store):
    before, now = made_up(store, 4), made_up(store, 3, seed=1)
    with EmbeddingWriter(store) as writer:
        publish(writer, "a", before)
        reader = EmbeddingStore(store.path)
        changed = DIGESTS | {"he": "purple"}
        attempt = begin(writer, "a", 3)
        attempt.put(0, now[:2]).result()
        assert np.array_equal(stored(store, "a"), before)
        assert reader.state("a", changed) == State.STALE
        attempt.put(1, now[2:])
        attempt.publish(changed).result()
        assert reader.state("a", changed) == State.COMPLETE
    assert np.array_equal(stored(store, "a"), now)
    assert (tissues(store), left_beside(store)) == (["a"], [])


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


FULL: dict[str, tuple[str, Any, str]] = {
    "at a shard": ("none", shard_file.os, "fsync"),
    "at a compressed shard": ("zstd", embedding_writer.zarr.Array, "__setitem__"),
    "at its metadata": ("none", embedding_writer.zarr, "create_array"),
    "at its end": ("none", embedding_writer.zarr.Array, "update_attributes"),
}


def try_to_publish(writer: EmbeddingWriter) -> None:
    attempt = begin(writer, "a", 4)
    try:
        attempt.put(0, made_up(writer.store, 2))
        attempt.publish(DIGESTS).result()
    finally:
        attempt.discard()


@pytest.mark.parametrize("where", FULL)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(store, monkeypatch, where):
    codec, *spot = FULL[where]
    with EmbeddingWriter(store, codec) as writer:
        publish(writer, "kept", made_up(store, 3))
        with monkeypatch.context() as patch:
            patch.setattr(*spot, full)
            with pytest.raises(StoreWriteError) as caught:
                try_to_publish(writer)
        assert str(caught.value) == (
            f"features cannot be written to {store.path} (No space left on device): free space on its "
            "disk, or choose another place with embeddings.path=…. Tissues that are complete there are "
            "kept; embed again to go on."
        )
        assert (tissues(store), left_beside(store)) == (["kept"], [])
        publish(writer, "a", made_up(store, 4))  # there is room again
    assert np.array_equal(stored(store, "kept"), made_up(store, 3))
    assert np.array_equal(stored(store, "a"), made_up(store, 4))


def test_a_store_that_was_removed_meanwhile_is_told(store):
    with EmbeddingWriter(store) as writer:
        attempt = begin(writer, "a", 1)
        attempt.put(0, made_up(store, 1))
        shutil.rmtree(store.path)
        with pytest.raises(StoreWriteError, match=r"s\.zarr \(No such file or directory\)"):
            attempt.publish(DIGESTS).result()
        attempt.discard()


def test_an_error_ends_the_thread_and_gives_every_claim_back(store):
    def interrupted() -> None:
        with EmbeddingWriter(store) as writer:
            begin(writer, "a", 2).put(0, made_up(store, 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not [t for t in threading.enumerate() if t.name.startswith("write features")]
    with EmbeddingWriter(store) as writer:
        publish(writer, "a", made_up(store, 2))
    assert left_beside(store) == []


def test_an_unknown_codec_is_refused(store):
    with pytest.raises(ConfigError, match=r"embeddings\.codec='gzip', wanted none or zstd\."):
        EmbeddingWriter(store, "gzip")
