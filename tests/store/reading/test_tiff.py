"""TIFFs by window: every layout gives the array's pixels, and only what a window touches is read."""

from __future__ import annotations

import gc
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from slide_folders import draw_pixels, read_whole, save_tiff

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window, whole
from tissueseg.store.reading.tiff import TiffImage

CYX, YXS, YX = {"axes": "CYX"}, {"axes": "YXS"}, {"axes": "YX"}
HEIGHT, WIDTH = 150, 210

LAYOUTS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "contiguous": ("u2", (3, HEIGHT, WIDTH), {"metadata": CYX}),
    "contiguous, big-endian": ("u2", (3, HEIGHT, WIDTH), {"metadata": CYX, "byteorder": ">"}),
    "contiguous, BigTIFF": ("f4", (3, HEIGHT, WIDTH), {"metadata": CYX, "bigtiff": True}),
    "contiguous, one header": ("u2", (3, HEIGHT, WIDTH), {"truncate": True, "metadata": CYX}),
    "contiguous, ImageJ": ("u2", (3, HEIGHT, WIDTH), {"imagej": True, "metadata": CYX}),
    "strips, zlib": ("u1", (3, HEIGHT, WIDTH), {"rowsperstrip": 7, "compression": "zlib"}),
    "strips, lzw": ("u2", (HEIGHT, WIDTH), {"rowsperstrip": 40, "compression": "lzw"}),
    "strips, raw": ("i4", (HEIGHT, WIDTH), {"rowsperstrip": 9}),
    "tiles, raw": ("u2", (3, HEIGHT, WIDTH), {"tile": (32, 48), "metadata": CYX}),
    "tiles, raw, full width": ("u2", (160, 64), {"tile": (32, 64)}),
    "tiles, zlib": ("u2", (3, HEIGHT, WIDTH), {"tile": (64, 64), "compression": "zlib"}),
    "tiles, zlib, int32": ("i4", (HEIGHT, WIDTH), {"tile": (64, 32), "compression": "zlib"}),
    "tiles, zstd": ("u2", (3, HEIGHT, WIDTH), {"tile": (64, 64), "compression": "zstd"}),
    "tiles, lzw, predictor": (
        "u2",
        (3, HEIGHT, WIDTH),
        {"tile": (64, 64), "compression": "lzw", "predictor": True},
    ),
    "tiles, zlib, float predictor, big-endian": (
        "f4",
        (3, HEIGHT, WIDTH),
        {"tile": (64, 64), "compression": "zlib", "predictor": 3, "byteorder": ">"},
    ),
    "tiles, zlib, big-endian": (
        "u2",
        (3, HEIGHT, WIDTH),
        {"tile": (64, 64), "compression": "zlib", "byteorder": ">"},
    ),
    "jpeg 2000": ("u2", (HEIGHT, WIDTH), {"tile": (64, 64), "compression": "jpeg2000"}),
    "colour, jpeg": (
        "u1",
        (HEIGHT, WIDTH, 3),
        {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb", "metadata": YXS},
    ),
    "colour, strips": ("u1", (HEIGHT, WIDTH, 3), {"rowsperstrip": 20, "photometric": "rgb"}),
    "colour, contiguous": ("u1", (HEIGHT, WIDTH, 3), {"photometric": "rgb", "metadata": YXS}),
    "colour with alpha, tiles": (
        "u1",
        (HEIGHT, WIDTH, 4),
        {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (64, 64)},
    ),
    "colour, planar, contiguous": (
        "u1",
        (3, HEIGHT, WIDTH),
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
    "colour, planar, tiles": (
        "u1",
        (3, HEIGHT, WIDTH),
        {
            "photometric": "rgb",
            "planarconfig": "separate",
            "tile": (64, 64),
            "compression": "zlib",
        },
    ),
    "OME, single planes of depth and time": (
        "u2",
        (1, 3, 1, HEIGHT, WIDTH),
        {"ome": True, "metadata": {"axes": "TCZYX"}, "tile": (64, 64)},
    ),
    "one bit": ("?", (HEIGHT, WIDTH), {"photometric": "minisblack"}),
}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TiffImage, np.ndarray]]:
    folder = tmp_path_factory.mktemp("layouts")
    found = {}
    for i, (name, (dtype, shape, options)) in enumerate(LAYOUTS.items()):
        path = folder / f"{i}.tif"
        save_tiff(path, draw_pixels(dtype, shape), **({"metadata": None} | options))
        known = 3 if len(shape) == 3 else None
        found[name] = TiffImage(path, known), read_whole(path)
    return found


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_every_layout_gives_the_pixels_of_a_window(
    name: str, layouts: dict[str, tuple[TiffImage, np.ndarray]], data: st.DataObject
) -> None:
    image, pixels = layouts[name]
    height, width = pixels.shape[1:]
    y, x = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    bottom, right = data.draw(st.integers(y, height)), data.draw(st.integers(x, width))
    found = image.read(Window(y, x, bottom - y, right - x))
    np.testing.assert_array_equal(found, pixels[:, y:bottom, x:right], strict=True)


@pytest.mark.parametrize("name", LAYOUTS)
def test_shape_type_and_channels_are_known_before(
    name: str, layouts: dict[str, tuple[TiffImage, np.ndarray]]
) -> None:
    image, pixels = layouts[name]
    assert (image.channels, *image.size) == pixels.shape
    assert image.shape == (pixels.shape if len(pixels) > 1 else pixels.shape[1:])
    assert image.dtype == pixels.dtype
    assert image.dtype.isnative
    chosen = list(range(len(pixels)))[::-2]
    found = image.read(whole(image.size), chosen)
    np.testing.assert_array_equal(found, pixels[chosen], strict=True)


def test_colours_of_jpeg_are_rgb_and_not_ycbcr(tmp_path: Path) -> None:
    red = np.zeros((128, 128, 3), np.uint8)
    red[..., 0] = 250
    options = {"compression": "jpeg", "photometric": "rgb", "tile": (64, 64)}
    save_tiff(tmp_path / "red.tif", red, **options)
    with tifffile.TiffFile(tmp_path / "red.tif") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.YCBCR
    with TiffImage(tmp_path / "red.tif") as image:
        np.testing.assert_allclose(image.read(Window(60, 60, 9, 9))[:, 4, 4], [250, 0, 0], atol=3)


@pytest.mark.parametrize("levels", ["subifds", "pages"])
def test_a_pyramid_is_read_at_full_resolution(levels: str, tmp_path: Path) -> None:
    pixels = draw_pixels("u2", (3, 256, 320))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=levels == "subifds") as file:
        options: dict[str, Any] = {"tile": (64, 64), "compression": "zlib", "metadata": CYX}
        options["photometric"] = "minisblack"
        file.write(pixels, subifds=1 if levels == "subifds" else 0, **options)
        file.write(pixels[:, ::2, ::2], subfiletype=1, **options)
    with TiffImage(tmp_path / "a.ome.tif") as image:
        assert image.shape == (3, 256, 320)
        np.testing.assert_array_equal(
            image.read(Window(100, 90, 99, 80)), pixels[:, 100:199, 90:170]
        )


def test_tiles_that_were_never_written_are_filled(tmp_path: Path) -> None:
    def tiles() -> Any:
        yield np.full((64, 64), 7, np.uint16)
        yield from (None, None, None)

    options = {"shape": (128, 128), "dtype": "uint16", "tile": (64, 64), "compression": "zlib"}
    save_tiff(tmp_path / "sparse.tif", tiles(), **options)
    with TiffImage(tmp_path / "sparse.tif") as image:
        found = image.read(whole(image.size))[0]
    assert (found[:64, :64] == 7).all()
    assert found.sum() == 7 * 64 * 64


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every read that is made from now on."""
    sizes: list[int] = []
    pread = os.pread

    def counted(file: int, count: int, offset: int) -> bytes:
        sizes.append(count)
        return pread(file, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    return sizes


@pytest.mark.parametrize(
    ("window", "channels", "touched"),
    [
        (Window(0, 0, 64, 64), None, 5),
        (Window(63, 63, 2, 2), None, 4 * 5),
        (Window(64, 64, 128, 128), [1], 4),
        (Window(5, 5, 0, 9), None, 0),
        (Window(0, 0, 256, 256), [0, 4], 2 * 16),
    ],
)
def test_only_touched_tiles_of_the_wanted_channels_are_read(
    window: Window, channels: list[int] | None, touched: int, count_reads: list[int], tmp_path: Path
) -> None:
    options = {"tile": (64, 64), "compression": "zlib", "metadata": CYX}
    save_tiff(tmp_path / "a.tif", draw_pixels("u2", (5, 256, 256)), **options)
    with TiffImage(tmp_path / "a.tif") as image:
        image.read(window, channels)
    assert len(count_reads) == touched


def test_of_uncompressed_rows_only_the_wanted_part_is_read(
    count_reads: list[int], tmp_path: Path
) -> None:
    save_tiff(tmp_path / "a.tif", draw_pixels("u2", (2, 500, 4000)), metadata=CYX)
    with TiffImage(tmp_path / "a.tif") as image:
        image.read(Window(100, 200, 50, 30))
        assert sum(count_reads) == 2 * 50 * 30 * 2
        count_reads.clear()
        image.read(Window(100, 200, 50, 3000))
        assert sum(count_reads) == 2 * 50 * 4000 * 2


@pytest.mark.parametrize("options", [{"tile": (256, 256), "compression": "zlib"}, {}])
def test_memory_does_not_grow_with_the_image(options: dict[str, Any], tmp_path: Path) -> None:
    pixels = np.zeros((8, 2048, 2048), np.uint16)  # 64 MB
    save_tiff(tmp_path / "a.tif", pixels, metadata=CYX, **options)
    tracemalloc.start()
    try:
        with TiffImage(tmp_path / "a.tif") as image:
            for x in range(0, 2048, 256):
                assert image.read(Window(512, x, 256, 256)).shape == (8, 256, 256)  # 1 MB
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
    finally:
        tracemalloc.stop()


def test_files_can_be_read_where_the_system_knows_no_pread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pixels = draw_pixels("u2", (3, 256, 256))
    save_tiff(tmp_path / "a.tif", pixels, tile=(64, 64), metadata=CYX)
    monkeypatch.delattr(os, "pread")
    with TiffImage(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(whole(image.size)), pixels)


def test_several_threads_may_read_one_image(tmp_path: Path) -> None:
    pixels = draw_pixels("u2", (3, 512, 512))
    save_tiff(tmp_path / "a.tif", pixels, tile=(64, 64), compression="zlib", metadata=CYX)
    windows = [Window(y, y // 2, 100, 200) for y in range(0, 400, 10)]
    with TiffImage(tmp_path / "a.tif") as image, ThreadPoolExecutor(4) as pool:
        for (y, x, height, width), found in zip(
            windows, pool.map(image.read, windows), strict=True
        ):
            np.testing.assert_array_equal(found, pixels[:, y : y + height, x : x + width])


HANDLES = Path("/proc/self/fd")


@pytest.mark.skipif(not HANDLES.is_dir(), reason="the system does not list open files")
def test_files_are_given_back(tmp_path: Path) -> None:
    def is_open() -> bool:
        return path in [link.resolve() for link in HANDLES.iterdir()]

    path = tmp_path.resolve() / "a.tif"
    save_tiff(path, draw_pixels("u2", (64, 64)))
    image = TiffImage(path)
    image.read(whole(image.size))
    assert is_open()
    del image
    gc.collect()  # a file left to itself would warn here, which is an error
    assert not is_open()
    with TiffImage(path) as image:
        image.read(whole(image.size))
    assert not is_open()
    with pytest.raises(TissueDataError, match="closed file"):
        image.read(whole(image.size))


def test_windows_outside_are_refused(tmp_path: Path) -> None:
    save_tiff(tmp_path / "a.tif", draw_pixels("u2", (64, 80)))
    with TiffImage(tmp_path / "a.tif") as image:
        for window in (Window(0, 0, 65, 10), Window(0, 75, 10, 6), Window(-1, 0, 5, 5)):
            with pytest.raises(TissueDataError, match=r"is \(64, 80\) \(height, width\), which"):
                image.read(window)


@pytest.mark.real
@pytest.mark.parametrize("folder", ["mx_mibi_dcis", "mx_imc_spleen", "mx_nomask", "paired_he_mif"])
def test_real_images_are_read_as_tifffile_reads_them(folder: str, shared_data: Path) -> None:
    rng = np.random.default_rng(0)
    paths = sorted((shared_data / folder).glob("*.tif"))[:8]
    assert paths
    for path in paths:
        pixels = read_whole(path)
        with TiffImage(path) as image:
            assert (image.channels, *image.size) == pixels.shape
            for _ in range(3):
                y, x = (int(rng.integers(0, n - 50)) for n in image.size)
                found = image.read(Window(y, x, 50, 45))
                np.testing.assert_array_equal(found, pixels[:, y : y + 50, x : x + 45], strict=True)
