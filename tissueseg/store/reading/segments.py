"""Where the pixels of a TIFF lie: its pages as channels, and each page as tiles, strips or plain rows.

Whatever could change what a pixel means (stacks over depth or time, colours other than RGB, a preview
in place of the image) is refused here, from the headers alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window
from tissueseg.store.reading.lzw import guard

LARGEST_SEGMENT = 64 * 2**20
"""Bytes that a compressed strip or tile may have once decoded: windows share no decoded pixels."""

_UNSUSPICIOUS = 2**28  # bytes
_HIGHEST_COMPRESSION = 50_000  # of an empty mask by zstd, and more
_JPEG = (6, 7, 34892, 33007)  # compressions whose decoder turns YCbCr into RGB
_APERIO_YCBCR = 33003
_COLOURS = {"SEPARATED": "CMYK", "CIELAB": "CIELAB", "ICCLAB": "CIELAB", "ITULAB": "CIELAB"}
_PLAIN_BITS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Layout:
    """How every page of an image lies in its file."""

    keyframe: tifffile.TiffPage  # decodes segments of all pages, also when its file is closed
    size: tuple[int, int]  # height and width, px
    planes: int  # channels of a page that are stored one after the other
    samples: int  # channels of a page that are stored pixel by pixel
    segment: tuple[int, int]  # height and width of a tile or strip
    raw: bool  # rows can be read as they are

    @property
    def dtype(self) -> np.dtype:
        """Of decoded pixels, native."""
        return np.dtype(self.keyframe.dtype).newbyteorder("=")

    @property
    def stored_dtype(self) -> np.dtype:
        """Of raw pixels."""
        return self.dtype.newbyteorder(self.keyframe.parent.byteorder)

    @property
    def grid(self) -> tuple[int, int]:
        """Segments of a plane, down and across."""
        (height, width), (high, wide) = self.size, self.segment
        return -(-height // high), -(-width // wide)

    def touched(self, window: Window, plane: int) -> Iterator[int]:
        """Segments of a plane that hold pixels of a window."""
        (down, across), (high, wide) = self.grid, self.segment
        if not window.height or not window.width:
            return
        for row in range(window.y // high, -(-(window.y + window.height) // high)):
            for column in range(window.x // wide, -(-(window.x + window.width) // wide)):
                yield (plane * down + row) * across + column

    def place(self, segment: int) -> Window:
        """Where a segment lies in its plane; tiles may stand out over the edges."""
        (down, across), (high, wide) = self.grid, self.segment
        row, column = divmod(segment % (down * across), across)
        return Window(row * high, column * wide, high, wide)


class Page(NamedTuple):
    """Where the segments of a page lie in the file."""

    offsets: np.ndarray  # 0: never written
    counts: np.ndarray  # bytes
    tables: bytes | None = None  # of JPEG


def describe(
    path: Path, file: tifffile.TiffFile, channels: int | None
) -> tuple[Layout, tuple[Page, ...]]:
    """Layout and pages of the first image at full resolution, one page or plane per channel.

    Args:
        path: for messages.
        file: an open TIFF.
        channels: how many it has, if known; decides what an axis without meaning is.

    Raises:
        TissueDataError: one line with file, what it holds and what to do.
    """
    _check_largest(path, file)
    series = file.series[0]
    if file.is_ome and series.kind != "ome":
        raise TissueDataError(
            f"{path} cannot be read: its pages are not those that its OME-XML describes. Is it cut "
            "short? Copy or export it again."
        )
    keyframe = series.keyframe
    _check_colours(path, keyframe)
    size = _check_axes(path, series, channels)
    planes, _, _, _, samples = keyframe.shaped
    raw = _is_raw(keyframe)
    segment = (keyframe.tilelength, keyframe.tilewidth)
    if not keyframe.is_tiled:
        segment = (min(keyframe.rowsperstrip, size[0]), size[1])
    pages = _find_pages(path, series)
    if raw and all(_follow_on(page) for page in pages):
        segment = size
        plane_bytes = prod(size) * samples * np.dtype(keyframe.dtype).itemsize
        pages = tuple(_merge(page, planes, plane_bytes) for page in pages)
    elif raw and keyframe.is_tiled:
        raw = False
    layout = Layout(keyframe, size, planes, samples, segment, raw)
    _check_segments(path, layout)
    guard(series)
    keyframe.init_decode()
    return layout, pages


def _check_largest(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse a file whose first image is a preview of another."""
    areas = [
        prod(n for axis, n in zip(series.axes, series.shape, strict=True) if axis in "YX")
        for series in file.series
    ]
    if not areas:
        raise TissueDataError(f"{path} holds no image.")
    if max(areas) > areas[0]:
        raise TissueDataError(
            f"{path} holds {len(areas)} images, and image {areas.index(max(areas)) + 1} is larger than "
            "the first: save the one that is meant as a file of its own."
        )


def _check_colours(path: Path, page: tifffile.TiffPage) -> None:
    photometric = getattr(page.photometric, "name", "")
    ycbcr = photometric == "YCBCR" and page.compression not in _JPEG
    if name := "YCbCr" if ycbcr or page.compression == _APERIO_YCBCR else _COLOURS.get(photometric):
        raise TissueDataError(f"{path} holds {name} colours: convert it to RGB.")
    if np.dtype(page.dtype).kind not in "biuf":
        raise TissueDataError(f"{path} holds {page.dtype} pixels, wanted integers or floats.")


def _check_axes(
    path: Path, series: tifffile.TiffPageSeries, channels: int | None
) -> tuple[int, int]:
    """Height and width, once it is clear that all other axes are channels."""
    axes, shape = series.get_axes(False), series.get_shape(False)
    page = series.keyframe
    planes, depth, height, width, samples = page.shaped
    extra = {axis: n for axis, n in zip(axes, shape, strict=True) if axis not in "YX" and n > 1}
    in_order = [n for axis, n in zip(axes, shape, strict=True) if axis in "YX"] == [height, width]
    if depth > 1 or not in_order or len(extra) > 1 or set(extra) & set("ZT"):
        raise TissueDataError(
            f"{path} has axes {series.axes} of {series.shape}, wanted one plane per channel: project or "
            "split the others, and save with axes CYX."
        )
    axis, found = next(iter(extra.items()), ("C", 1))
    if axis not in "CS" and found != channels:
        wanted = f"wanted {channels}" if channels else "and the description does not list them"
        raise TissueDataError(
            f"{path} has shape {series.shape} with axes {series.axes}: nothing says that the {found} "
            f"planes are channels, {wanted}. List as many `channels`, or save with axes CYX."
        )
    frames = prod(shape) // page.size
    if frames * planes * samples != found or (frames > 1 and samples > 1):
        raise TissueDataError(f"{path} has {frames} pages for {found} channels: save it anew.")
    return height, width


def _is_raw(page: tifffile.TiffPage) -> bool:
    """Whether rows lie in the file as they are in memory, but for byte order."""
    untouched = page.compression == 1 and page.predictor == 1 and page.fillorder == 1
    plain = page.bitspersample in _PLAIN_BITS and not page.is_subsampled
    return untouched and plain and (not page.is_tiled or page.is_contiguous)


def _find_pages(path: Path, series: tifffile.TiffPageSeries) -> tuple[Page, ...]:
    """Segments of every page; ImageJ writes the header of the first one only."""
    keyframe = series.keyframe
    count = max(1, prod(series.get_shape(False)) // keyframe.size)
    if len(series) < count and series.dataoffset is not None:
        starts = (series.dataoffset + i * keyframe.nbytes for i in range(count))
        return tuple(Page(np.array([s]), np.array([keyframe.nbytes])) for s in starts)
    found = [series[i] for i in range(min(count, len(series)))]
    pages = [page for page in found if page is not None]
    if len(pages) < count or series.is_multifile:
        raise TissueDataError(
            f"{path} holds {len(pages)} of its {count} planes, wanted all in one file: save it anew."
        )
    return tuple(
        Page(
            np.asarray(page.dataoffsets, np.int64),
            np.asarray(page.databytecounts, np.int64),
            page.jpegtables,
        )
        for page in pages
    )


def _follow_on(page: Page) -> bool:
    """Whether all segments lie one after the other."""
    return bool(page.offsets[0] and (page.offsets[1:] == (page.offsets + page.counts)[:-1]).all())


def _merge(page: Page, planes: int, plane_bytes: int) -> Page:
    starts = page.offsets[0] + plane_bytes * np.arange(planes)
    return Page(starts, np.full(planes, plane_bytes))


def check_volume(path: Path, decoded: int) -> None:
    """Refuse a file that claims more pixels than its bytes can hold: damage, or malice.

    Args:
        path: of the file.
        decoded: bytes its pixels would take.
    """
    held = max(path.stat().st_size, 1)
    if decoded > _UNSUSPICIOUS and decoded > _HIGHEST_COMPRESSION * held:
        raise TissueDataError(
            f"{path} claims {decoded / 2**30:.3g} GB of pixels in {held} bytes: it is damaged. Save it "
            "anew."
        )


def _check_segments(path: Path, layout: Layout) -> None:
    itemsize = layout.dtype.itemsize
    check_volume(path, prod(layout.size) * layout.planes * layout.samples * itemsize)
    decoded = prod(layout.segment) * layout.samples * itemsize
    if decoded > LARGEST_SEGMENT and not layout.raw:
        raise TissueDataError(
            f"{path} is compressed in pieces of {decoded / 2**20:.0f} MB, which windows cannot share: "
            "convert it to tiles, such as with bfconvert -tilex 1024 -tiley 1024."
        )
