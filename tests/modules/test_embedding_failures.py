"""Encoding that is interrupted: no half tissue, no thread, and claims that others may take."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_features import Embedding, left_beside, stored, tiny_encoder, tissues
from stores import random_tissue, write_store

from tissueseg.data.images import TileImages
from tissueseg.data.views import Views
from tissueseg.errors import StoreWriteError, TissueDataError
from tissueseg.store import embedding_writer
from tissueseg.store.embedding_writer import EmbeddingWriter, work_folder
from tissueseg.store.shard_file import write_shard
from tissueseg.store.tissues import TissueStore

NAMES = ["a", "b", "c"]  # of four tiles each, in two shards


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    tissues = {name: random_tissue(32, 32, i) for i, name in enumerate(NAMES)}
    return write_store(tmp_path_factory.mktemp("failures") / "s.zarr", tissues)


@pytest.fixture
def made(source: TissueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedding:
    monkeypatch.setattr(embedding_writer, "SHARD_BYTES", 2 * 2 * 4 * 4 * 16 * 2)
    return Embedding(source, tmp_path / "f.zarr", Views(1, extra=1), tiny_encoder(), batch_size=3)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Any:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert not [n for n in names if n.startswith(("read tiles", "write features"))]


def assert_sound(made: Embedding, complete: list[str]) -> None:
    """Nothing but these tissues is there, and the others can be made at once."""
    assert (tissues(made.stored), left_beside(made.stored)) == (complete, [])
    again = made.run()
    assert (again.kept, again.encoded) == (complete, [n for n in NAMES if n not in complete])
    assert all(np.isfinite(stored(made.stored, name)).all() for name in NAMES)


def break_reading(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Of the third tile of `b`."""
    views = TileImages.views

    def read(images: TileImages, tissue: str, origin: tuple[int, int], wanted: Any) -> Any:
        if (tissue, origin) == ("b", (16, 0)):
            raise error
        return views(images, tissue, origin, wanted)

    monkeypatch.setattr(TileImages, "views", read)


def test_a_tile_that_cannot_be_read_ends_it(made, monkeypatch):
    with monkeypatch.context() as patch:
        break_reading(patch, TissueDataError("tissue b: he is damaged"))
        with pytest.raises(TissueDataError, match="tissue b: he is damaged"):
            made.run()
    complete = tissues(made.stored)
    assert complete in ([], ["a"])  # which may have been on its way
    assert_sound(made, complete)


def test_a_tile_that_cannot_be_read_leaves_its_tissue_out(made, monkeypatch):
    with monkeypatch.context() as patch:
        break_reading(patch, TissueDataError("tissue b: he is damaged"))
        outcome = made.run(skip_failed=True)
    assert (outcome.encoded, list(outcome.failed)) == (["a", "c"], ["b"])
    assert_sound(made, ["a", "c"])


def test_our_own_mistakes_are_never_skipped(made, monkeypatch):
    with monkeypatch.context() as patch:
        break_reading(patch, ZeroDivisionError("ours"))
        with pytest.raises(ZeroDivisionError, match="ours"):
            made.run(skip_failed=True)
    assert "b" not in tissues(made.stored)
    assert left_beside(made.stored) == []


@pytest.mark.parametrize("tissue", NAMES)
@pytest.mark.parametrize("calls", [1, 3])
def test_an_interruption_leaves_no_half_tissue_and_no_thread(made, tissue, calls):
    told = made.told

    def interrupt(*said: Any) -> None:
        told.append(said)
        if sum(name == tissue for name, *_ in told) == calls:
            raise KeyboardInterrupt

    made.options["tell"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        made.run()
    made.options["tell"] = lambda *_: None
    complete = tissues(made.stored)
    assert complete in (NAMES[: (at := NAMES.index(tissue))], NAMES[: max(at - 1, 0)])
    assert_sound(made, complete)


@pytest.mark.parametrize("skip_failed", [False, True])
@pytest.mark.parametrize("shard", [1, 2, 3, 4, 6])
def test_a_full_disk_ends_it_and_keeps_what_is_complete(made, monkeypatch, shard, skip_failed):
    written = []

    def write(path: Path, chunks: np.ndarray, count: int) -> None:
        written.append(path)
        if len(written) >= shard:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_shard(path, chunks, count)

    with monkeypatch.context() as patch:
        patch.setattr(embedding_writer, "write_shard", write)
        with pytest.raises(StoreWriteError) as caught:
            made.run(skip_failed)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(
        f"features cannot be written to {made.stored.path} (No space left on device): free space"
    )
    assert_sound(made, NAMES[: (shard - 1) // 2])


def take_over(made: Embedding, tissue: str) -> None:
    """Make a worker's claim that of one that died long ago."""
    (claim,) = (work_folder(Path(made.stored.path)) / "claims" / tissue).glob("*.claim")
    claim.write_text("{}")
    os.utime(claim, (0, 0))


def test_a_tissue_that_was_taken_over_is_another_s(made):
    with EmbeddingWriter(made.stored) as other:
        begun: list[Any] = []

        def tell(tissue: str, *_: Any) -> None:
            if tissue == "b" and not begun:
                take_over(made, "b")
                begun.append(other.begin("b", 4))

        made.options["tell"] = tell
        outcome = made.run()
        assert tissues(made.stored) == ["a", "c"]
        begun[0].discard()
        assert (outcome.encoded, outcome.elsewhere) == (["a", "c"], ["b"])
