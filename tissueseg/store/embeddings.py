"""Reading stored features: one Zarr per fingerprint, one array per tissue, one chunk per tile and view.

A store says what its features were made from. A tissue is there when it is complete, and counts only
while its images are those its features were made from. Uncompressed stores on a local disk are read
past zarr, straight into the batch; others, and those on remote file systems, through zarr.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from enum import StrEnum
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from tissueseg.contracts import EncoderSpec
from tissueseg.errors import StoreNotFoundError, TissueDataError, UnreachableError, in_one_line
from tissueseg.store.fingerprint import fingerprint
from tissueseg.store.per_process import PerProcess
from tissueseg.store.recent import Recent
from tissueseg.store.remote import AT_ONCE, connect, is_remote, place
from tissueseg.store.shards import ChunkError, OpenShards, Piece, ShardedArray, read_ahead
from tissueseg.store.versions import Version, version

SCHEMA = 1
ATTRIBUTE = "tissueseg_embeddings"

DTYPES = {"float16": "float16", "bfloat16": "uint16", "float32": "float32"}
"""Number types of features -> of the arrays that hold them: Zarr has no bfloat16, its bits do."""

FILL = {"float16": math.nan, "uint16": 0xFFFF, "float32": math.nan}
"""Array type -> what a chunk that is gone reads as: never a feature, which are finite."""

_MOST_THREADS = 4  # more gain nothing: checksums are computed under the interpreter's lock
_OPEN_ARRAYS = 4096  # they hold no features: a few kB each
_ABSENT = (FileNotFoundError, KeyError)
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, RuntimeError)


class State(StrEnum):
    """What a store has of a tissue."""

    COMPLETE = "complete"
    STALE = "stale"  # made from other images than the tissue has now
    MISSING = "missing"


class Request(NamedTuple):
    """One tile in one view."""

    tissue: str
    tile: int
    view: int


class EmbeddingStore:
    """Read access to stored features; safe to pickle and to use after a fork.

    Args:
        path: of the store; or an address such as `s3://…`, read through fsspec.
        threads: that read a batch together; None: one per CPU, 4 at most, and of
            addresses as many as keep them busy.

    Raises:
        StoreNotFoundError: the path is missing or holds no store of features.
        UnreachableError: the address does not answer.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path, self._threads = str(path), threads or _threads(path)
        self._opened = PerProcess(partial(_Opened, self.path, self._threads))
        about = _root(self.path, self._opened())
        try:
            self.fields: dict[str, Any] = about["fields"]
            self.fingerprint: str = about["fingerprint"]
            self.spec = EncoderSpec(**about["spec"])
            self.grid: tuple[int, int, int, int] = tuple(about["grid"])
            self.made: dict[str, Any] = about["made"]
            self.dtype: str = self.fields["dtype"]
            damaged = self.fingerprint != fingerprint(self.fields) or self.dtype not in DTYPES
            damaged |= len(self.grid) != 4
        except (KeyError, TypeError, ValueError):
            damaged = True
        if damaged:
            raise StoreNotFoundError(
                f"{self.path} is damaged: it does not say what its features were made from. Remove it "
                "and embed again."
            )

    @property
    def name(self) -> str:
        """What it is called in lists."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def views(self) -> int:
        """Copies of every tile."""
        return self.fields["views"]["dihedral"] + self.fields["views"]["extra"]

    def state(self, tissue: str, digests: Mapping[str, str]) -> State:
        """Whether a tissue's features are there, and made from the images it has now.

        Args:
            tissue: its name.
            digests: image -> digest of its pixels, in the tissue store.
        """
        array = self._open_array(tissue)  # others may have made it just now
        if array is None:
            return State.MISSING
        if array.digests != dict(digests):
            return State.STALE
        self._opened().arrays.get(tissue, lambda: array)  # it is to be read: opened once
        return State.COMPLETE

    def states(self, digests: Mapping[str, Mapping[str, str]]) -> dict[str, State]:
        """The `state` of many tissues; a server is asked for several at once.

        Args:
            digests: tissue -> its digests.
        """
        at_once = self._opened().pool.map if is_remote(self.path) else map
        return dict(zip(digests, at_once(self.state, digests, digests.values()), strict=True))

    def tiles(self, tissue: str) -> int:
        """Tiles of a complete tissue."""
        return self._complete(tissue).shape[0]

    def shard_tiles(self, tissue: str) -> int:
        """Tiles in each shard of a complete tissue."""
        return self._complete(tissue).shard_shape[0]

    def read(self, requests: Sequence[Request], out: np.ndarray) -> None:
        """Read tiles of any tissues, in the order they are asked for.

        Args:
            requests: which.
            out: (n, level, h, w, D) C-contiguous, of the array's number type (see `DTYPES`).

        Raises:
            TissueDataError: damaged data, with shard and tile.
        """
        order = sorted(range(len(requests)), key=lambda i: requests[i].tissue)
        share = max(-(-len(order) // self._threads), 1)
        parts = [order[i : i + share] for i in range(0, len(order), share)]
        if len(parts) < 2:
            for part in parts:
                self._read_part(part, requests, out)
            return
        pool = self._opened().pool
        jobs = [pool.submit(self._read_part, part, requests, out) for part in parts]
        wait(jobs)  # nobody may write into `out` once this returns
        for job in jobs:
            job.result()

    def _read_part(self, part: list[int], requests: Sequence[Request], out: np.ndarray) -> None:
        try:
            read_ahead(self._pieces(part, requests, out))
        except ChunkError as error:
            raise self._error(error.folder.rpartition("/")[2], str(error)) from error
        if (lost := _lost(out[part, :1, :1, :1, :1].ravel())) is not None:
            tissue, tile, view = requests[part[lost]]
            said = f"tile {tile}, view {view} is missing: a file of it is gone"
            raise self._error(tissue, said)

    def _pieces(
        self, part: list[int], requests: Sequence[Request], out: np.ndarray
    ) -> Iterator[Piece]:
        """What there is to read from local disks; what is not is read at once."""
        rows = np.array(part)
        chunks = np.zeros((len(part), 2 + len(self.grid)), np.int64)
        chunks[:, :2] = [requests[i][1:] for i in part]
        first = 0
        for tissue, group in groupby(part, lambda i: requests[i].tissue):
            last = first + len(list(group))
            array, mine = self._complete(tissue), slice(first, last)
            if isinstance(array, _Direct):
                yield from array.pieces(chunks[mine], out, rows[mine])
            else:
                array.read(chunks[mine, :2], out, rows[mine])
            first = last

    def _error(self, tissue: str, said: str) -> TissueDataError:
        return TissueDataError(
            f"tissue {tissue}: features cannot be read: {said.rstrip('.')}. Remove "
            f"{array_path(self.path, tissue)} and embed again."
        )

    def _complete(self, tissue: str) -> _Array:
        def open_it() -> _Array:
            if (array := self._open_array(tissue)) is None:
                raise StoreNotFoundError(
                    f"{self.path} has no features of tissue {tissue}: embed it first."
                )
            return array

        array = self._opened().arrays.get(tissue, open_it)
        if version(array_path(self.path, tissue)) != array.version:
            raise StoreNotFoundError(
                f"{self.path}: tissue {tissue} was replaced or removed while it was being read: start "
                "again with what is there now."
            )
        return array

    def _open_array(self, tissue: str) -> _Array | None:
        form = ((self.views, *self.grid), np.dtype(DTYPES[self.dtype]))
        return _open(self.path, tissue, form, self._opened())


class _Direct:
    """A complete tissue in an uncompressed array on a local disk."""

    def __init__(
        self, version: Version | None, digests: dict[str, str], array: ShardedArray
    ) -> None:
        self.version, self.digests, self._array = version, digests, array
        self.shape, self.shard_shape = array.shape, array.shard_shape

    def pieces(self, chunks: np.ndarray, out: np.ndarray, rows: np.ndarray) -> Iterator[Piece]:
        """Tiles and views, padded to (n, 6) chunks, and the rows of `out` that they go to."""
        return self._array.pieces(chunks, out[:, None, None], rows)


class _ThroughZarr:
    """A complete tissue in any other array."""

    def __init__(
        self, path: str, version: Version | None, digests: dict[str, str], array: zarr.Array
    ) -> None:
        self._path, self.version, self.digests, self._array = path, version, digests, array
        self.shape, self.shard_shape = array.shape, array.shards or array.chunks

    def read(self, places: np.ndarray, out: np.ndarray, rows: np.ndarray) -> None:
        """Read (n, 2) tiles and views into those rows of `out`."""
        for (tile, view), row in zip(places.tolist(), rows.tolist(), strict=True):
            try:
                out[row] = self._array[tile, view]  # one by one: fancy indexing is 20 times slower
            except UnreachableError:
                raise
            except _UNREADABLE as error:
                said = f"tile {tile}, view {view} cannot be read ({in_one_line(error)})."
                raise ChunkError(self._path, said) from error


_Array = _Direct | _ThroughZarr


class _Opened:
    """What a process has opened of a store."""

    def __init__(self, path: str, threads: int) -> None:
        self.remote = connect(path)
        self.arrays: Recent[str, _Array] = Recent(_OPEN_ARRAYS)
        self.shards = OpenShards()
        self.pool = ThreadPoolExecutor(threads, "features")


def _threads(path: str | Path) -> int:
    return AT_ONCE if is_remote(path) else min(os.cpu_count() or 1, _MOST_THREADS)


def array_path(store: str, tissue: str) -> str:
    """Where a tissue's array stands in a store."""
    return f"{store.rstrip('/')}/{tissue}"


def _lost(firsts: np.ndarray) -> int | None:
    """Which of some chunks is gone, if any is, given the first number of each."""
    lost = np.isnan(firsts) if firsts.dtype.kind == "f" else firsts == FILL["uint16"]
    return int(lost.argmax()) if lost.any() else None


def _open(
    store: str, tissue: str, form: tuple[tuple[int, ...], np.dtype], opened: _Opened
) -> _Array | None:
    """A tissue's array if it is complete; its form is that of a tile, and a number type."""
    path = array_path(store, tissue)
    seen = version(path)
    try:
        array = zarr.open_array(place(store, opened.remote, tissue), mode="r", zarr_format=3)
        about: Any = array.attrs[ATTRIBUTE]
        digests = about["digests"] if about["complete"] is True else None
        if (array.shape[1:], array.dtype) != form:
            raise ValueError(f"holds {array.dtype} {array.shape[1:]}, wanted {form[1]} {form[0]}")
    except UnreachableError:
        raise
    except _ABSENT:
        return None
    except _UNREADABLE as error:
        raise StoreNotFoundError(
            f"{path} is damaged ({in_one_line(error)}): remove it and embed the tissue again."
        ) from error
    if digests is None:
        return None
    direct = None if opened.remote else ShardedArray.open(Path(path), opened.shards)
    if direct is None:
        return _ThroughZarr(path, seen, digests, array)
    return _Direct(seen, digests, direct)


def _root(path: str, opened: _Opened) -> dict[str, Any]:
    if not opened.remote and not Path(path).is_dir():
        raise StoreNotFoundError(f"no stored features at {path}: the path does not exist.")
    try:
        root = zarr.open_group(place(path, opened.remote), mode="r", zarr_format=3)
        about: Any = root.attrs.get(ATTRIBUTE)
    except UnreachableError:
        raise
    except (*_ABSENT, *_UNREADABLE) as error:
        said = f"({in_one_line(error)[:200]})."
        if opened.remote and isinstance(error, _ABSENT):
            said = "itself: name the store, as what lies in a folder of a server is not looked for."
        raise StoreNotFoundError(f"no stored features at {path} {said}") from error
    if not isinstance(about, dict):
        raise StoreNotFoundError(f"{path} holds no stored features: make some with embed.")
    if about.get("schema") != SCHEMA:
        raise StoreNotFoundError(
            f"{path} has schema {about.get('schema')}, this version reads {SCHEMA}: embed again."
        )
    return about
