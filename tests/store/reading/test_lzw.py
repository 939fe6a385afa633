"""LZW streams are read, or refused before they reach a decoder that would end the process."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import imagecodecs
import numpy as np
import pytest
import tifffile

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window
from tissueseg.store.reading.lzw import check_stream
from tissueseg.store.reading.rasters import read_mask
from tissueseg.store.reading.tiff import TiffImage

CLEAR, END = 256, 257


def pack(codes: Iterable[int], high_first: bool = True) -> bytes:
    """A stream of codes."""
    bits, size, width = "", END, 9
    for code in codes:
        digits = f"{code:0{width}b}"
        bits += digits if high_first else digits[::-1]
        size = END if code == CLEAR else size + 1
        width = width_of(size, high_first)
    bits += "0" * (-len(bits) % 8)
    bytes_ = [bits[i : i + 8] for i in range(0, len(bits), 8)]
    return bytes(int(byte if high_first else byte[::-1], 2) for byte in bytes_)


def unpack(data: bytes, high_first: bool = True) -> Iterator[int]:
    """The codes of a stream, one by one, up to its end."""
    bits = "".join(f"{byte:08b}" if high_first else f"{byte:08b}"[::-1] for byte in data)
    at, size, width = 0, END, 9
    while at + width <= len(bits):
        digits = bits[at : at + width]
        code = int(digits if high_first else digits[::-1], 2)
        yield code
        if code == END:
            return
        at += width
        size = END if code == CLEAR else size + 1
        width = width_of(size, high_first)


def width_of(size: int, high_first: bool) -> int:
    """Bits of the next code after a table has so many entries."""
    return min(12, max(9, (size + high_first).bit_length()))


def names_nothing(codes: Iterable[int]) -> bool:
    """Whether a code after a clear code is no byte, no other clear code and no end."""
    before, size = 0, END
    for code in codes:
        if before == CLEAR and code > END:
            return True
        size = END if code == CLEAR else size + 1
        if size > 4096:
            return False  # no room: the decoder refuses it
        before = code
    return False


def refused(data: bytes) -> bool:
    """Whether the check refuses a stream."""
    try:
        check_stream(data)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("length", [0, 1, 2, 300, 511, 4000, 60_000])
@pytest.mark.parametrize("values", [1, 4, 256])
def test_streams_of_an_encoder_pass(length: int, values: int) -> None:
    pixels = np.random.default_rng(length).integers(0, values, length).astype(np.uint8).tobytes()
    check_stream(imagecodecs.lzw_encode(pixels))


@pytest.mark.parametrize("high_first", [True, False])
@pytest.mark.parametrize("before", [0, 1, 63, 64, 65, 253, 254, 255, 256, 766, 1790, 3800, 3837])
def test_a_string_of_an_empty_table_is_refused_wherever_it_is(
    before: int, high_first: bool
) -> None:
    codes = [CLEAR, *(n % 256 for n in range(before)), CLEAR, CLEAR]
    assert not refused(pack([*codes, 65, 258, END], high_first))
    assert refused(pack([*codes, 300, 66, END], high_first))
    assert not refused(pack([*codes, END, CLEAR, 300], high_first))  # what follows is not decoded
    if high_first:
        decoded = imagecodecs.lzw_decode(pack([*codes, 65, 258, END]))
        assert decoded == bytes(n % 256 for n in range(before)) + b"AAA"


@pytest.mark.parametrize("high_first", [True, False])
def test_random_bytes_are_refused_where_a_plain_reading_says_so(high_first: bool) -> None:
    random, verdicts = Random(3), []
    for _ in range(400):
        codes = [CLEAR]
        for _ in range(random.randrange(1, 30)):
            codes += [*random.choices(range(256), k=random.choice((1, 1, 2, 2, 5, 5, 40))), CLEAR]
        data = bytearray(pack([*codes, 7, END], high_first))
        for _ in range(random.choice((0, 1, 5, 25))):
            data[random.randrange(2, len(data))] = random.randrange(256)
        verdicts.append(refused(bytes(data)))
        assert verdicts[-1] == names_nothing(unpack(bytes(data), high_first))
    assert 20 < sum(verdicts) < 380


def test_a_stream_without_an_end_is_no_damage() -> None:
    check_stream(pack([CLEAR, 1, 2, 3]))
    check_stream(pack([CLEAR]))
    check_stream(b"\x80")
    with pytest.raises(ValueError, match="does not begin"):
        check_stream(b"no LZW at all")


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_damaged_tiff_is_refused_both_ways_of_reading(
    tmp_path: Path, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.tif"
    pixels = np.arange(3 * 32 * 32, dtype=np.uint16).reshape(3, 32, 32) % 9
    tifffile.imwrite(path, pixels, compression="lzw", photometric="minisblack", tile=tile)
    with tifffile.TiffFile(path) as file:
        page = file.pages[2]
        offset, count = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(path.read_bytes())
    stream = pack([CLEAR, 300] + [258 + n % 2 for n in range(200)])[:count]
    data[offset : offset + len(stream)] = stream
    path.write_bytes(data)
    with pytest.raises(TissueDataError, match="an LZW stream names string 300 of an empty table"):
        read_mask(path, "instances")
    with TiffImage(path, 3) as image:
        assert np.array_equal(image.read(Window(0, 0, 32, 32), [0, 1]), pixels[:2])
        with pytest.raises(TissueDataError, match="an LZW stream names string 300"):
            image.read(Window(0, 0, 32, 32))


@pytest.mark.parametrize("spoilt", [False, True])
def test_bytes_that_lie_the_other_way_are_turned_before(tmp_path: Path, spoilt: bool) -> None:
    path = tmp_path / "a.tif"
    pixels = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32) % 9
    tifffile.imwrite(path, pixels, compression="lzw", extratags=[(65000, "H", 1, 2, True)])
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        (offset,), (count,) = page.dataoffsets, page.databytecounts
    other, fill_order = struct.pack("<HHIH", 65000, 3, 1, 2), struct.pack("<HHIH", 266, 3, 1, 2)
    data = bytearray(path.read_bytes().replace(other, fill_order))  # not a tag that tifffile writes
    stream = pack([CLEAR, 300, 5]).ljust(count, b"\0") if spoilt else data[offset : offset + count]
    data[offset : offset + count] = imagecodecs.bitorder_decode(bytes(stream))
    path.write_bytes(data)
    if not spoilt:
        assert np.array_equal(read_mask(path, "instances"), pixels)
        return
    with pytest.raises(TissueDataError, match="an LZW stream names string 300"):
        read_mask(path, "instances")
