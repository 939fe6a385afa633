"""Image and mask files whose bytes were spoilt: read as a source reads them, or refused in one line."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tifffile
from fuzz.fuzzing import spoil
from fuzz.kinds import Kind, check
from fuzz.plain_values import spoil_tree
from layouts import write_ngff
from PIL import Image
from slide_folders import draw_slide, write_pyramid

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window
from tissueseg.store.reading.ngff import NgffImage
from tissueseg.store.reading.rasters import (
    open_array,
    read_he,
    read_header,
    read_mask,
    read_sp,
    storable,
)
from tissueseg.store.reading.tiff import TiffImage

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]

WORDS = (b"IFD", b"PhysicalSizeX=", b"SizeC=", b"BigEndian", b"<Image>", b"uint16", b"CYX")
_HEAD = 700  # bytes that say what the rest means; spoilt more often than pixels


def spoilt_image(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes of an image, its head or its tail, with checksums that are right now and then."""
    match random.randrange(6):
        case 0 | 1:
            found = spoil(random, data, [*others, *WORDS])
        case 2:
            found = spoil(random, data[:_HEAD], [*others, *WORDS], words=True) + data[_HEAD:]
        case 3:
            found = data[:-_HEAD] + spoil(random, data[-_HEAD:], [*others, *WORDS], words=True)
        case 4:
            found = data.replace(*random.choice(_SWAPPED), 1)
        case _:
            found = data
    return _checked(found) if found.startswith(b"\x89PNG") and random.randrange(4) else found


_SWAPPED = (
    *(
        (b"CYX", b"ZYX"),
        (b"uint16", b"float"),
        (b'SizeX="', b'SizeX="9'),
        (b"DimensionOrder", b"D"),
    ),
    *((b"<Image", b"<Imago"), (b"</OME>", b""), (b"'descr': '<u2'", b"'descr': '|O8'")),
    *((b"'shape': (", b"'shape': (9"), (b"'<u2'", b"'<f8'"), (b"False", b"True"), (b"II*", b"MM*")),
)


def _checked(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, so that more of it is read."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def write_images(folder: Path) -> None:
    """One image in each of the ways it may be saved."""
    slide = draw_slide(40, 48)
    he, sp = slide.he, slide.sp
    for name, picture in {
        "rgb.png": Image.fromarray(he),
        "rgba.png": Image.fromarray(he).convert("RGBA"),
        "palette.png": Image.fromarray(he).quantize(16),
        "grey.png": Image.fromarray(he[..., 0]),
        "deep.png": Image.fromarray(sp[0]),
        "rgb.jpg": Image.fromarray(he),
        "grey.jpg": Image.fromarray(he[..., 0]),
        "cmyk.jpg": Image.fromarray(he).convert("CMYK"),
    }.items():
        picture.save(folder / name)
    tile = {"tile": (16, 16)}
    for name, image, options in (
        ("rgb.tif", he, {"photometric": "rgb"}),
        ("jpeg.tif", he, {"photometric": "rgb", "compression": "jpeg", **tile}),
        ("lzw.tif", sp, {"photometric": "minisblack", "compression": "lzw", **tile}),
        ("zstd.tif", sp, {"photometric": "minisblack", "compression": "zstd", "predictor": True}),
        (
            "deflate.tif",
            sp.astype(np.float32),
            {"photometric": "minisblack", "compression": "zlib"},
        ),
        ("big.tif", sp, {"photometric": "minisblack", "bigtiff": True, "byteorder": ">"}),
        ("planar.tif", np.moveaxis(he, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        ("imagej.tif", sp, {"imagej": True, "metadata": {"axes": "CYX", "Labels": list("abcde")}}),
        ("jp2.tif", he, {"photometric": "rgb", "compression": "jpeg2000", **tile}),
    ):
        about: dict[str, Any] = {"metadata": {"axes": "CYX"}} if image is sp else {}
        tifffile.imwrite(folder / name, image, **(about | options))
    named = {"axes": "CYX", "Channel": {"Name": list("abcde")}, "PhysicalSizeX": 0.5}
    write_pyramid(folder / "pyramid.ome.tif", sp, named | {"PhysicalSizeY": 0.5})
    tifffile.imwrite(folder / "plain.ome.tif", sp, metadata=named, photometric="minisblack")
    np.save(folder / "sp.npy", sp)
    np.save(folder / "he.npy", he)
    np.savez(folder / "sp.npz", sp=sp)
    np.savez_compressed(folder / "he.npz", he)


def write_masks(folder: Path) -> None:
    """One mask of ids in each of the ways it may be saved."""
    labels = draw_slide(40, 48).labels
    small = labels.astype(np.uint16)
    Image.fromarray(small).save(folder / "deep.png")
    Image.fromarray((labels % 4).astype(np.uint8)).save(folder / "small.png")
    Image.fromarray((labels % 4).astype(np.uint8)).quantize(4).save(folder / "palette.png")
    Image.fromarray(labels % 2 > 0).save(folder / "bits.png")
    for name, image, options in (
        ("labels.tif", labels, {}),
        ("float.tif", labels.astype(np.float32), {"compression": "zlib"}),
        ("tiled.tif", small, {"compression": "lzw", "tile": (16, 16), "predictor": True}),
        ("big.tif", labels.astype(np.int64), {"bigtiff": True, "byteorder": ">"}),
        ("plain.ome.tif", labels, {"metadata": {"axes": "YX"}}),
    ):
        tifffile.imwrite(folder / name, image, photometric="minisblack", **options)
    write_pyramid(folder / "pyramid.ome.tif", small[None], {"axes": "CYX"})
    np.save(folder / "labels.npy", labels)
    np.save(folder / "bits.npy", labels > 0)
    np.savez(folder / "several.npz", instances=labels, classes=small)
    np.savez_compressed(folder / "one.npz", labels)


def _as_he(path: Path) -> None:
    found = read_he(path)
    assert found.pixels.dtype == np.uint8
    assert len(found.pixels) == 3


def _as_sp(path: Path) -> None:
    stack, _ = read_sp(path, 5)
    assert stack.ndim == 3
    assert stack.dtype in (np.uint8, np.uint16, np.float32)


def _as_mask(path: Path) -> None:
    plane = read_mask(path, "instances")
    assert plane.ndim == 2
    assert plane.dtype.kind in "iu"


def _in_windows(path: Path) -> None:
    with TiffImage(path) as image:
        _four_windows(image)


def _four_windows(image: TiffImage | NgffImage) -> None:
    """Corners and the middle, as far as these are small: what a tile of training needs."""
    height, width = image.shape[-2:]
    h, w = min(height, 24), min(width, 24)
    storable(image.dtype, image.path)
    for y, x in ((0, 0), (height - h, width - w), ((height - h) // 2, (width - w) // 2)):
        found = image.read(Window(y, x, h, w))
        assert found.shape[-2:] == (h, w)


def _mapped(path: Path) -> None:
    values = open_array(path)
    np.array(values[(slice(0, 4),) * values.ndim])


_TIFF = (".tif",)


def _file_kind(
    write: Callable[[Path], None], uses: Sequence[tuple[Callable[[Path], object], Sequence[str]]]
) -> Callable[[Path], Kind]:
    def kind(folder: Path) -> Kind:
        write(folder)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        contents = list(files.values())

        def make(random: Random, place: Path) -> tuple[Callable[[Path], object], Path]:
            name = random.choice(list(files))
            data = files[name]
            if name.endswith(".npz") and random.randrange(2):
                data = _repacked(random, data)
            elif random.randrange(50) == 0:
                name = random.choice(list(files))  # one kind of file under the name of another
            path = place / name
            path.write_bytes(spoilt_image(random, data, contents))
            fitting = [use for use, ends in uses if not ends or name.endswith(tuple(ends))]
            return random.choice(fitting), path

        return Kind(make, lambda given: given[0](given[1]))

    return kind


def _repacked(random: Random, data: bytes) -> bytes:
    """An npz whose members were spoilt before they were packed, so that they unpack."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            member = name if random.randrange(10) else random.choice(("x", "arr_0.npy", "../x.npy"))
            after.writestr(member, spoil(random, before.read(name), WORDS, words=True))
    return out.getvalue()


def ngff_kind(folder: Path) -> Kind:
    """An OME-Zarr image: what it says of itself, of its array, and its chunks."""
    whole = folder / "image.zarr"
    write_ngff(whole, draw_slide(40, 48).sp)

    def make(random: Random, place: Path) -> Path:
        path = place / "image.zarr"
        shutil.copytree(whole, path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        about = [file for file in files if file.name == "zarr.json"]
        file = random.choice([*files, *about, *about])
        if file in about and random.randrange(3):
            tree = spoil_tree(random, json.loads(file.read_text(encoding="utf-8")))
            file.write_text(json.dumps(tree, default=str), encoding="utf-8")
        elif random.randrange(12) == 0:
            file.unlink()
        else:
            file.write_bytes(spoil(random, file.read_bytes(), words=file in about))
        return path

    def read(path: Path) -> None:
        image = NgffImage(path)
        _four_windows(image)
        if len(image.shape) != 3:
            raise TissueDataError("no image of channels")

    return Kind(make, read)


KINDS = {
    "images": _file_kind(
        write_images,
        (
            (_as_he, ()),
            (_as_sp, ()),
            (read_header, ()),
            (_in_windows, _TIFF),
            (_mapped, (".npy",)),
        ),
    ),
    "ngff": ngff_kind,
    "masks": _file_kind(
        write_masks,
        ((_as_mask, ()), (_as_mask, ()), (_in_windows, _TIFF), (_mapped, (".npy",))),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_spoilt_images_are_read_or_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus").mkdir()
    check(name, KINDS[name](tmp_path / "corpus"), tmp_path / "inputs", capsys)
