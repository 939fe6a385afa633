"""Encoding tissues for good: tiles are read ahead, encoded, and written while the next are encoded.

A block of features, one shard, is filled while the one before it is written; a tissue appears in the
store when all its blocks are there, and finite.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tissueseg.data.features import TORCH_DTYPES, array_of
from tissueseg.data.images import TileImages
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.encoders.base import Encoder
from tissueseg.errors import FeatureOverflowError, StoreWriteError, TissuesegError
from tissueseg.store.embedding_writer import Attempt, EmbeddingWriter, work_folder
from tissueseg.store.embeddings import State

_POLL_S = 1.0
_BLOCKS = 2  # one is filled, one is written

Item = TypeVar("Item")
Made = TypeVar("Made")


class Tissue(NamedTuple):
    """What is to be encoded."""

    name: str
    cover: TileCover
    digests: dict[str, str]  # image -> digest of its pixels


@dataclass
class Outcome:
    """What became of the tissues."""

    encoded: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)  # complete before
    elsewhere: list[str] = field(default_factory=list)  # other workers are at them
    failed: dict[str, TissuesegError] = field(default_factory=dict)


class Embedder:
    """Encodes tissues of one store into another.

    Args:
        encoder: frozen; moved to `device`.
        images: of all tissues, with the encoder's halo.
        views: copies of every tile, in the order they are stored.
        writer: of the store of features.
        device: that computes.
        autocast: number type of the encoder's matrix products; None: float32.
        batch_size: tiles and views encoded at a time.
        threads: that read tiles.
        tell: called with a tissue's name, a number of tiles, and whether they were encoded just now
            or are there already.
    """

    def __init__(
        self,
        encoder: Encoder,
        images: TileImages,
        views: Views,
        writer: EmbeddingWriter,
        *,
        device: torch.device,
        autocast: torch.dtype | None,
        batch_size: int,
        threads: int,
        tell: Callable[[str, int, bool], None],
    ) -> None:
        self._encoder, self._images, self._views = encoder.to(device), images, views
        self._writer, self._device, self._autocast = writer, device, autocast
        self._batch_size, self._threads, self._tell = batch_size, threads, tell
        self._dtype = TORCH_DTYPES[writer.store.dtype]
        self._blocks = _Blocks(self._dtype, pinned=device.type == "cuda")

    def run(self, tissues: Sequence[Tissue], skip_failed: bool, waits: bool = False) -> Outcome:
        """Encode what is missing and no other worker is at.

        Args:
            tissues: in the order they are tried.
            skip_failed: go on after a tissue that cannot be encoded; else its error is raised.
            waits: for tissues that other workers are at, at the end.
        """
        outcome, publishing = Outcome(), deque[_Publishing]()
        with ThreadPoolExecutor(self._threads, "read tiles") as readers:
            try:
                self._pass(tissues, readers, outcome, publishing, skip_failed)
                while waits and outcome.elsewhere:
                    time.sleep(_POLL_S)
                    names, outcome.elsewhere = set(outcome.elsewhere), []
                    left = [tissue for tissue in tissues if tissue.name in names]
                    self._pass(left, readers, outcome, publishing, skip_failed)
            finally:
                for left in publishing:
                    left.attempt.discard()
        return outcome

    def _pass(
        self,
        tissues: Sequence[Tissue],
        readers: ThreadPoolExecutor,
        outcome: Outcome,
        publishing: deque[_Publishing],
        skip_failed: bool,
    ) -> None:
        for tissue in tissues:
            if attempt := self._begin(tissue, outcome):
                self._try(tissue, attempt, readers, outcome, publishing, skip_failed)
            _settle(publishing, outcome, most=1)
        _settle(publishing, outcome, most=0)

    def _begin(self, tissue: Tissue, outcome: Outcome) -> Attempt | None:
        """Claim a tissue, if there is anything to do, be it to clear up behind a killed worker."""
        complete = self._is_complete(tissue)
        if not complete or self._left_behind(tissue):
            attempt = self._writer.begin(tissue.name, len(tissue.cover))
            if attempt is None and not complete:
                outcome.elsewhere.append(tissue.name)
                return None
            if attempt is not None:
                if not self._is_complete(tissue):
                    return attempt
                attempt.discard()  # perhaps completed by another worker since we looked
        outcome.kept.append(tissue.name)
        self._tell(tissue.name, len(tissue.cover), False)
        return None

    def _is_complete(self, tissue: Tissue) -> bool:
        return self._writer.store.state(tissue.name, tissue.digests) == State.COMPLETE

    def _left_behind(self, tissue: Tissue) -> bool:
        """Whether there are attempts at it, by workers alive or dead."""
        return (work_folder(self._writer.path) / "tissues" / tissue.name).exists()

    def _try(
        self,
        tissue: Tissue,
        attempt: Attempt,
        readers: ThreadPoolExecutor,
        outcome: Outcome,
        publishing: deque[_Publishing],
        skip_failed: bool,
    ) -> None:
        try:
            self._encode(tissue, attempt, readers)
        except TissuesegError as error:
            attempt.discard()
            if not skip_failed or isinstance(error, StoreWriteError):
                raise
            outcome.failed[tissue.name] = error
            return
        except BaseException:
            attempt.discard()
            raise
        publishing.append(_Publishing(tissue.name, attempt, attempt.publish(tissue.digests)))

    def _encode(self, tissue: Tissue, attempt: Attempt, readers: ThreadPoolExecutor) -> None:
        """Fill blocks, and hand them over as they are full."""
        shape = self._writer.block_shape(len(tissue.cover))
        ahead = max(2, -(-2 * self._batch_size // len(self._views)))  # two batches
        pairs = _ahead(readers, self._read, _tiles(tissue), ahead)
        for number, first in enumerate(range(0, len(tissue.cover), shape[0])):
            block = self._blocks.take(shape)
            count = min(shape[0], len(tissue.cover) - first)
            finite = self._fill(block[:count].flatten(0, 1), pairs, tissue, count)
            self._refuse_overflow(finite, tissue, first)
            self._blocks.lend(attempt.put(number, array_of(block[:count])))

    def _fill(self, block: Tensor, pairs: Iterator[_Read], tissue: Tissue, tiles: int) -> Tensor:
        """Encode so many tiles in all views into a block; which of these features are finite."""
        flags, done, views = [], 0, len(self._views)
        images = (image for read in islice(pairs, tiles) for image in read)
        while batch := list(islice(images, self._batch_size)):
            image = self._stacked([image for image, _ in batch])
            present = self._stacked([present for _, present in batch])
            features = self._features(image, present)
            flags.append(features.isfinite().flatten(1).all(1))
            block[done : done + len(batch)].copy_(features, non_blocking=True)
            self._tell(tissue.name, (done + len(batch)) // views - done // views, True)
            done += len(batch)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return torch.cat(flags).cpu()

    def _features(self, image: Tensor, present: Tensor) -> Tensor:
        """(B, level, h, w, D) in the number type that is stored."""
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            levels = self._encoder(image, present).levels
        return torch.stack([level.permute(0, 2, 3, 1).to(self._dtype) for level in levels], 1)

    def _stacked(self, parts: Sequence[np.ndarray]) -> Tensor:
        """On the device; a GPU fetches while the next are stacked."""
        pinned = self._device.type == "cuda"
        first = torch.from_numpy(parts[0])
        whole = torch.empty((len(parts), *first.shape), dtype=first.dtype, pin_memory=pinned)
        for place, part in zip(whole, parts, strict=True):
            place.copy_(torch.from_numpy(part))
        return whole.to(self._device, non_blocking=True)

    def _read(self, tile: tuple[str, tuple[int, int]]) -> _Read:
        views = [self._views.view(i, *tile) for i in range(len(self._views))]
        return list(self._images.views(*tile, views))

    def _refuse_overflow(self, finite: Tensor, tissue: Tissue, first: int) -> None:
        if bool(finite.all()):
            return
        y, x = tissue.cover.origin(first + int((~finite).nonzero()[0]) // len(self._views))
        raise FeatureOverflowError(
            f"encoder={self._encoder.spec.name} gave features that are not finite as "
            f"{self._writer.store.dtype} for tissue {tissue.name}, tile at row {y}, column {x}: embed "
            "with embeddings.dtype=bfloat16 and trainer.precision=bf16-mixed or 32-true; if they do not "
            "help, look at that tile. on_error=skip leaves such tissues out."
        )


_Read = list[tuple[np.ndarray, np.ndarray]]
"""Image and present channels of every view of a tile."""


class _Blocks:
    """Memory that is filled and written in turn, from tissue to tissue."""

    def __init__(self, dtype: torch.dtype, pinned: bool) -> None:
        self._dtype, self._pinned, self._turn = dtype, pinned, 0
        self._blocks = [torch.empty(0, dtype=dtype) for _ in range(_BLOCKS)]
        self._jobs: list[Future[None] | None] = [None] * _BLOCKS

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """A block that nobody writes any more; it waits for that, or raises what writing raised."""
        self._turn = (self._turn + 1) % _BLOCKS
        job, self._jobs[self._turn] = self._jobs[self._turn], None
        if job is not None and not job.cancelled():
            job.result()
        if self._blocks[self._turn].shape != shape:
            self._blocks[self._turn] = torch.empty(
                shape, dtype=self._dtype, pin_memory=self._pinned
            )
        return self._blocks[self._turn]

    def lend(self, job: Future[None]) -> None:
        """The block taken last is being written by a job."""
        self._jobs[self._turn] = job


class _Publishing(NamedTuple):
    tissue: str
    attempt: Attempt
    job: Future[bool]


def _settle(publishing: deque[_Publishing], outcome: Outcome, most: int) -> None:
    """Wait until at most so many tissues are on their way into the store."""
    while len(publishing) > most:
        published = publishing[0].job.result()
        (outcome.encoded if published else outcome.elsewhere).append(publishing.popleft().tissue)


def _tiles(tissue: Tissue) -> Iterator[tuple[str, tuple[int, int]]]:
    return ((tissue.name, tissue.cover.origin(i)) for i in range(len(tissue.cover)))


def _ahead(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], items: Iterator[Item], count: int
) -> Iterator[Made]:
    """What is made of each item, in order, some of them made ahead."""
    jobs = deque(pool.submit(make, item) for item in islice(items, count))
    try:
        while jobs:
            made = jobs.popleft().result()
            jobs.extend(pool.submit(make, item) for item in islice(items, 1))
            yield made
    finally:
        for job in jobs:
            job.cancel()
