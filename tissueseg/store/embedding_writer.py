"""Writing stored features: shards in the background, and a tissue that appears whole or not at all.

Each attempt at a tissue has a folder of its own beside the store, so two workers never write one shard.
A complete one is renamed into the store; what a killed worker leaves is removed by the next that claims
the tissue.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from tissueseg.contracts import EncoderSpec
from tissueseg.errors import ConfigError, SpecMismatchError, StoreWriteError
from tissueseg.store.claims import Claim, Claims
from tissueseg.store.embeddings import ATTRIBUTE, DTYPES, FILL, SCHEMA, EmbeddingStore, array_path
from tissueseg.store.fingerprint import Fields, differences, fingerprint
from tissueseg.store.shard_file import write_shard

SHARD_BYTES = 64 * 2**20
CODECS = ("none", "zstd")

Made = TypeVar("Made")


class Grid(NamedTuple):
    """What one tile and view of an encoder is."""

    levels: int
    height: int  # tokens
    width: int
    channels: int


def create_store(
    path: Path, fields: Fields, spec: EncoderSpec, grid: Grid, made: Mapping[str, Any]
) -> EmbeddingStore:
    """Make a store, unless another worker has, and open it.

    Args:
        path: where it shall stand.
        fields: what its features are made from, in plain types.
        spec: of the encoder that was built.
        grid: of one tile and view.
        made: by which versions, for the reader's eyes only.

    Raises:
        SpecMismatchError: what stands there is made from something else.
    """
    plain = json.loads(json.dumps(dict(fields)))  # as they will be read
    if not path.exists():
        about = {
            "schema": SCHEMA,
            "fingerprint": fingerprint(plain),
            "fields": plain,
            "spec": spec.as_dict(),
            "grid": list(grid),
            "made": dict(made),
        }
        _make(path, about)
    store = EmbeddingStore(path)
    if store.fingerprint != fingerprint(plain):
        said = "; ".join(map(str, differences(store.fields, plain)))
        raise SpecMismatchError(
            f"{path} holds features of another origin (stored ≠ wanted): {said}. Choose another place "
            "with embeddings.path=…, or remove it and embed again."
        )
    return store


def _make(path: Path, about: dict[str, Any]) -> None:
    draft = work_folder(path) / uuid4().hex
    try:
        draft.mkdir(parents=True)
        zarr.open_group(draft, mode="w", attributes={ATTRIBUTE: about})
        with suppress(OSError):  # another worker was faster
            draft.rename(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def work_folder(store: Path) -> Path:
    """Where claims are kept and tissues are made, beside the store."""
    return store.with_name(f".{store.name}.work")


class EmbeddingWriter:
    """Puts tissues into a store on a background thread; a context manager.

    Args:
        store: from `create_store`.
        codec: `none` or `zstd`; features shrink by less than a tenth.
    """

    def __init__(self, store: EmbeddingStore, codec: str = "none") -> None:
        if codec not in CODECS:
            raise ConfigError(f"embeddings.codec={codec!r}, wanted {' or '.join(CODECS)}.")
        self.store, self.codec = store, codec
        self.path, self.grid = Path(store.path), Grid(*store.grid)
        self.dtype = np.dtype(DTYPES[store.dtype])
        self.written = Written()
        self._work = work_folder(self.path)
        self.thread = ThreadPoolExecutor(1, "write features")
        self._claims = Claims(self._work / "claims")

    def block_shape(self, tiles: int) -> tuple[int, ...]:
        """Of what a tissue of so many tiles is written in: a shard, (tile, view, level, h, w, D)."""
        tile_bytes = self.store.views * int(np.prod(self.grid)) * self.dtype.itemsize
        return max(1, min(SHARD_BYTES // tile_bytes, tiles)), self.store.views, *self.grid

    def begin(self, tissue: str, tiles: int) -> Attempt | None:
        """Claim a tissue; None: another worker is at it."""
        if (claim := self._claims.take(tissue)) is None:
            return None
        attempts = self._work / "tissues" / tissue
        try:
            shutil.rmtree(attempts, ignore_errors=True)  # of workers that died
            folder = attempts / uuid4().hex
            folder.mkdir(parents=True)
            return Attempt(self, tissue, tiles, claim, folder)
        except OSError as error:
            shutil.rmtree(attempts, ignore_errors=True)
            claim.release()
            raise unwritten(self.path, error) from error

    def __enter__(self) -> EmbeddingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.thread.shutdown(cancel_futures=kind is not None)
        self._claims.close()


class Written:
    """What the background thread has written, and how long it took."""

    def __init__(self) -> None:
        self.bytes, self.seconds = 0, 0.0


class Attempt:
    """One worker's work at one tissue, until it is published or discarded."""

    def __init__(
        self, writer: EmbeddingWriter, tissue: str, tiles: int, claim: Claim, folder: Path
    ) -> None:
        self.tissue = tissue
        self._writer, self._claim, self._folder = writer, claim, folder
        self._replaced = folder.with_name(f"{folder.name}.old")
        self._jobs: list[Future[Any]] = []
        self._block = writer.block_shape(tiles)
        compressors = [ZstdCodec(level=1)] if writer.codec == "zstd" else []
        self._array = zarr.create_array(
            str(folder),
            shape=(tiles, *self._block[1:]),
            chunks=(1, 1, *self._block[2:]),
            shards=self._block,
            dtype=writer.dtype,
            compressors=[*compressors, Crc32cCodec()],
            filters=None,
            fill_value=FILL[DTYPES[writer.store.dtype]],
            overwrite=True,
        )

    def put(self, number: int, block: np.ndarray) -> Future[None]:
        """Write a shard in the background; `block` must stay as it is until that is done.

        Args:
            number: of the shard.
            block: (tiles, view, level, h, w, D); the last one of a tissue may be shorter.
        """
        return self._later(self._write, number, block)

    def publish(self, digests: Mapping[str, str]) -> Future[bool]:
        """Let the tissue appear in the store, in the background, once its shards are written.

        The result is False if another worker has taken the tissue over.

        Args:
            digests: image -> digest of the pixels its features were made from.
        """
        return self._later(self._publish, list(self._jobs), dict(digests))

    def discard(self) -> None:
        """Give the tissue up, unless it is published."""
        for job in self._jobs:
            job.cancel()
        wait(self._jobs)
        self._close()

    def _later(self, job: Callable[..., Made], *given: Any) -> Future[Made]:
        future = self._writer.thread.submit(job, *given)
        self._jobs.append(future)
        return future

    def _write(self, number: int, block: np.ndarray) -> None:
        written, began = self._writer.written, perf_counter()
        try:
            if self._writer.codec == "none":
                chunks = block.reshape(-1, *block.shape[2:])
                key = "/".join(map(str, (number, *[0] * (block.ndim - 1))))
                write_shard(self._folder / "c" / key, chunks, int(np.prod(self._block[:2])))
            else:
                first = number * self._block[0]
                self._array[first : first + len(block)] = block
        except OSError as error:
            raise unwritten(self._writer.path, error) from error
        written.bytes += block.nbytes
        written.seconds += perf_counter() - began

    def _publish(self, shards: list[Future[None]], digests: dict[str, str]) -> bool:
        for shard in shards:
            shard.result()
        try:
            self._array.update_attributes({ATTRIBUTE: {"digests": digests, "complete": True}})
            if held := self._claim.held():
                self._replace(Path(array_path(self._writer.store.path, self.tissue)))
        except OSError as error:
            raise unwritten(self._writer.path, error) from error
        self._close()
        return held

    def _replace(self, place: Path) -> None:
        """Take the tissue's place in the store; what stands there was made from other images."""
        if place.exists():
            place.rename(self._replaced)
        self._folder.rename(place)

    def _close(self) -> None:
        """Leave nothing of ours; a worker that took over has its folder beside."""
        for folder in (self._folder, self._replaced):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            self._folder.parent.rmdir()
        self._claim.release()


def unwritten(path: Path, error: OSError) -> StoreWriteError:
    """The error of a disk that takes no more."""
    return StoreWriteError(
        f"features cannot be written to {path} ({error.strerror or error}): free space on its disk, or "
        "choose another place with embeddings.path=…. Tissues that are complete there are kept; embed "
        "again to go on."
    )
