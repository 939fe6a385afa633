"""LZW streams of TIFF looked through before they are decoded.

A stream is codes of 9 to 12 bits; a clear code empties the table of strings, and only a byte may follow
it. `imagecodecs` (2026.3.6) takes any code there, and follows pointers it never wrote: a damaged file
ends the process instead of being refused. So the codes after clear codes are looked at first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import tifffile

_CLEAR, _END = 256, 257
_WIDTH = 9  # bits of the first codes of a table
_CODES = 4096 - _END + 2  # at most, from one clear code to the next
_FEW = 64  # codes looked at before all that a table can take


class _Codes(NamedTuple):
    """Codes of a table but the first: where they lie, counted from the byte in which they begin."""

    ends: np.ndarray  # bit after each
    bytes: np.ndarray  # in which each begins
    shifts: np.ndarray  # by which 24 bits from there have it lowest
    masks: np.ndarray


def guard(series: tifffile.TiffPageSeries) -> None:
    """Have LZW segments of a series that cannot be decoded refused, instead of ending the process."""
    keyframes = [page.keyframe for page in series.pages if page is not None]
    for page in {id(page): page for page in keyframes if page is not None}.values():
        if page.compression == tifffile.COMPRESSION.LZW:
            _guard(page)


def _guard(page: tifffile.TiffPage) -> None:
    decode: Callable[..., Any] = page.decode
    turned = page.fillorder == 2

    def decode_checked(data: bytes | None, *args: Any, **options: Any) -> Any:
        if data is not None:
            check_stream(bytes(imagecodecs.bitorder_decode(data)) if turned else data)
        return decode(data, *args, **options)

    page.decode = decode_checked


def check_stream(data: bytes) -> None:
    """Refuse a stream that names a string of a table that was just emptied.

    Args:
        data: of a strip or tile, as TIFF 6.0 has it or as older writers and GIF do (low bits first).

    Raises:
        ValueError: damaged.
    """
    if len(data) < 2:
        return  # the decoder refuses it
    high_first = not (data[0] == 0 and data[1] & 1)
    if high_first and not (data[0] == 128 and data[1] < 128):
        raise ValueError("an LZW stream does not begin with a clear code")
    triples = _triples(data, high_first)
    at: int | None = _WIDTH
    while at is not None and at + _WIDTH <= 8 * len(data):
        shift = 24 - _WIDTH - at % 8 if high_first else at % 8
        first = int(triples[at // 8]) >> shift & (1 << _WIDTH) - 1
        if first > _END:
            raise ValueError(f"an LZW stream names string {first} of an empty table")
        at += _WIDTH
        if first == _END:
            return
        if first < _CLEAR:
            at = _next_table(triples, high_first, at)


def _next_table(triples: np.ndarray, high_first: bool, at: int) -> int | None:
    """Bit after the next clear code, or None where the stream ends before one."""
    known = _table_codes(high_first, at % 8)
    begins = at - at % 8
    inside = int(np.searchsorted(known.ends, 8 * len(triples) - begins, "right"))
    left = triples[begins // 8 :]
    for part in (slice(0, min(_FEW, inside)), slice(_FEW, inside)):
        codes = left.take(known.bytes[part])
        codes >>= known.shifts[part]
        codes &= known.masks[part]
        stops = np.flatnonzero((codes | 1) == _END)  # clear and end differ in one bit
        if len(stops):
            stop = int(stops[0])
            return begins + int(known.ends[part][stop]) if codes[stop] == _CLEAR else None
    return None


def _triples(data: bytes, high_first: bool) -> np.ndarray:
    """The 24 bits from every byte on, which hold any code that begins in it."""
    padded = np.frombuffer(data + b"\0\0", np.uint8).astype(np.int32)
    one, two, three = padded[:-2], padded[1:-1], padded[2:]
    return one << 16 | two << 8 | three if high_first else one | two << 8 | three << 16


@cache
def _table_codes(high_first: bool, offset: int) -> _Codes:
    """Codes become wider as the table grows; where high bits come first, one code early."""
    sizes = _END + 1 + np.arange(_CODES) + high_first
    widths = _WIDTH + (sizes[:, None] >= (512, 1024, 2048)).sum(1)
    ends = offset + np.cumsum(widths)
    starts = ends - widths
    shifts = 24 - starts % 8 - widths if high_first else starts % 8
    return _Codes(ends, starts // 8, shifts.astype(np.int32), ((1 << widths) - 1).astype(np.int32))
