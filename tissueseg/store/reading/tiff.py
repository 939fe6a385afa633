"""TIFF, OME-TIFF and SVS images read window by window, whatever their size.

`tifffile` parses headers and decodes single tiles and strips; here it is decided which of them a window
touches. Only those are read, so memory holds a window and a few of them, never a page.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import tifffile

from tissueseg.errors import TissueDataError, TissuesegError
from tissueseg.store.planes import Window
from tissueseg.store.reading.claims import read_claims
from tissueseg.store.reading.segments import describe

_THREADS = 2
_FEW = 4  # segments for which threads are not worth their start
_BLOCK = 4 * 2**20  # bytes of uncompressed rows read at once
_PATIENCE = 200  # complaints about one file
_WIDE = 4  # rows up to so many times wider than the window are read whole


class TiffImage:
    """The first image of a TIFF at full resolution. Several threads may read it.

    Args:
        path: TIFF, BigTIFF, OME-TIFF or SVS.
        channels: how many it has, if known; decides what an axis without meaning is.

    Raises:
        TissueDataError: damaged, not one plane per channel, or in pieces too large to read.
    """

    def __init__(self, path: str | Path, channels: int | None = None) -> None:
        self.path = Path(path)
        with opened(self.path) as file:
            self.names, self.mpp = read_claims(file)
            self._layout, self._pages = describe(self.path, file, channels)
        layout = self._layout
        self.size, self.dtype = layout.size, layout.dtype
        self.channels = len(self._pages) * layout.planes * layout.samples
        self._file = self.path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, self._file.close)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), or (H, W) of an image without channels."""
        return (self.channels, *self.size) if self.channels > 1 else self.size

    def close(self) -> None:
        """Give the file back; garbage collection does it too."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, window: Window, channels: Sequence[int] | None = None) -> np.ndarray:
        """Pixels of a window.

        Args:
            window: inside the image.
            channels: only these, in this order.

        Returns:
            (C, h, w) in native byte order; a view where the file keeps channels pixel by pixel.

        Raises:
            TissueDataError: the file is damaged, or the window leaves the image.
        """
        y, x, height, width = window
        if min(window) < 0 or y + height > self.size[0] or x + width > self.size[1]:
            raise TissueDataError(
                f"{self.path} is {self.size} (height, width), which does not hold {window}."
            )
        with reading(self.path):
            if self._layout.samples > 1:
                together = np.empty((height, width, self.channels), self.dtype)
                self._fill(window, [(0, together)])
                return np.moveaxis(together, -1, 0)[slice(None) if channels is None else channels]
            wanted = range(self.channels) if channels is None else channels
            out = np.empty((len(wanted), height, width), self.dtype)
            self._fill(window, [(c, out[i, ..., None]) for i, c in enumerate(wanted)])
            return out

    def _fill(self, window: Window, targets: list[tuple[int, np.ndarray]]) -> None:
        """Decode what a window touches, straight into (h, w, samples) targets of some channels."""
        work = [
            partial(self._copy, page, segment, window, target)
            for channel, target in targets
            for page, plane in [divmod(channel, self._layout.planes)]
            for segment in self._layout.touched(window, plane)
        ]
        if len(work) < _FEW:
            for task in work:
                task()
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(lambda task: task(), work):
                pass  # raises what a task raised

    def _copy(self, page: int, segment: int, window: Window, target: np.ndarray) -> None:
        """Put the part of a segment that lies in a window where it belongs."""
        layout, stored, place = self._layout, self._pages[page], self._layout.place(segment)
        top, left = max(place.y, window.y), max(place.x, window.x)
        bottom = min(place.y + place.height, window.y + window.height)
        right = min(place.x + place.width, window.x + window.width)
        target = target[top - window.y : bottom - window.y, left - window.x : right - window.x]
        part = Window(top - place.y, left - place.x, bottom - top, right - left)
        offset, count = int(stored.offsets[segment]), int(stored.counts[segment])
        if not offset or not count:  # sparse: never written
            target[...] = layout.keyframe.nodata
        elif layout.raw:
            self._copy_rows(offset, count, part, target)
        else:
            header = layout.keyframe.jpegheader
            data = self._bytes(offset, count)
            decoded = layout.keyframe.decode(
                data, segment, jpegtables=stored.tables, jpegheader=header
            )[0]
            assert decoded is not None
            rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
            target[...] = decoded[0, rows, columns]

    def _copy_rows(self, offset: int, count: int, part: Window, target: np.ndarray) -> None:
        """Copy uncompressed rows, a few at a time, or only what the window needs of each."""
        dtype, samples = self._layout.stored_dtype, self._layout.samples
        width, pixel = self._layout.segment[1], samples * dtype.itemsize
        row = width * pixel
        if (part.y + part.height) * row > count:
            raise ValueError(f"a strip of {count} bytes, wanted {(part.y + part.height) * row}")
        if width > _WIDE * part.width:
            first = offset + part.y * row + part.x * pixel
            starts = range(first, first + part.height * row, row)
            joined = b"".join(self._bytes(start, part.width * pixel) for start in starts)
            target[...] = np.frombuffer(joined, dtype).reshape(part.height, part.width, samples)
            return
        step = max(1, _BLOCK // row)
        for first in range(0, part.height, step):
            rows = min(step, part.height - first)
            flat = np.frombuffer(self._bytes(offset + (part.y + first) * row, rows * row), dtype)
            block = flat.reshape(rows, width, samples)
            target[first : first + rows] = block[:, part.x : part.x + part.width]

    def _bytes(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            found = os.pread(self._file.fileno(), count, offset)
        else:
            with self._lock:
                self._file.seek(offset)
                found = self._file.read(count)
        if len(found) != count:
            raise ValueError(f"it ends {count - len(found)} bytes before its pixels do")
        return found


@contextmanager
def opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """A TIFF whose headers are whole.

    `tifffile` logs what it cannot parse and goes on without it, so that a file cut short loses its
    channel names or half its pages and looks like another image.

    Raises:
        TissueDataError: one line.
    """
    said = _Said()
    log = logging.getLogger("tifffile")
    before, log.propagate = log.propagate, False
    log.addHandler(said)
    try:
        with reading(path), _not_in_circles(), tifffile.TiffFile(path) as file:
            try:
                yield file
            except TissuesegError as error:  # as it may well seem, without what was lost
                said.check(error)
                raise
            said.check()
    finally:
        log.removeHandler(said)
        log.propagate = before


class _EnoughError(BaseException):
    """Ends a parser that goes in circles and catches every Exception."""


@contextmanager
def _not_in_circles() -> Iterator[None]:
    try:
        yield
    except _EnoughError as error:
        raise ValueError(str(error)) from error


class _Said(logging.Handler):
    """What `tifffile` says of tags and pages that are not where they should be."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._damage: list[str] = []
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self._count += 1
        if self._count > _PATIENCE:
            raise _EnoughError(message)
        if "invalid value offset" in message or "corrupted" in message:
            self._damage.append(message)

    def check(self, seeming: Exception | None = None) -> None:
        """Refuse a file of which something was not parsed."""
        if self._damage:
            raise ValueError(self._damage[0]) from seeming


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in whatever its decoder raises.

    Raises:
        TissueDataError: one line.
    """
    try:
        yield
    except TissuesegError:
        raise
    except Exception as error:  # decoders raise anything at all on broken files
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TissueDataError(f"{path} cannot be read, is it damaged? ({reason})") from error
