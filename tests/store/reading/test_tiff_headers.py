"""What TIFFs say of themselves: scale and names; and those that are refused from their headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from slide_folders import draw_pixels, read_whole, save_tiff

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window, whole
from tissueseg.store.reading.tiff import TiffImage

CYX = {"axes": "CYX"}


def refused(path: Path, channels: int | None = None) -> str:
    """The one line a user gets."""
    with pytest.raises(TissueDataError) as caught:
        TiffImage(path, channels)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_stacks_over_depth_or_time_are_refused(axes: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    save_tiff(path, draw_pixels("u2", (3, 64, 64)), ome=True, metadata={"axes": axes})
    assert f"has axes {axes} of (3, 64, 64), wanted one plane per channel" in refused(path, 3)


def test_two_axes_besides_the_plane_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    save_tiff(path, draw_pixels("u2", (2, 3, 64, 64)), ome=True, metadata={"axes": "ZCYX"})
    assert "has axes ZCYX" in refused(path)


def test_channels_as_last_axis_of_many_small_pages_are_refused(tmp_path: Path) -> None:
    save_tiff(tmp_path / "a.tif", draw_pixels("u2", (64, 80, 2)), metadata={"axes": "YXC"})
    assert "has axes YXC" in refused(tmp_path / "a.tif")


def test_an_axis_without_meaning_needs_the_number_of_channels(tmp_path: Path) -> None:
    pixels = draw_pixels("u2", (5, 64, 80))
    save_tiff(tmp_path / "a.tif", pixels, metadata=None)
    assert "nothing says that the 5 planes are channels, and the" in refused(tmp_path / "a.tif")
    assert "are channels, wanted 4" in refused(tmp_path / "a.tif", 4)
    with TiffImage(tmp_path / "a.tif", 5) as image:
        np.testing.assert_array_equal(image.read(whole(image.size)), pixels)


def test_a_preview_before_the_image_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(draw_pixels("u1", (32, 40)), metadata=None)
        file.write(draw_pixels("u1", (320, 400)), metadata=None)
    assert "holds 2 images, and image 2 is larger" in refused(tmp_path / "a.tif")


def test_one_huge_compressed_strip_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((6000, 6000), np.uint16)
    save_tiff(tmp_path / "a.tif", pixels, compression="zlib", rowsperstrip=6000)
    assert "compressed in pieces of 69 MB" in refused(tmp_path / "a.tif")
    save_tiff(tmp_path / "a.tif", pixels)
    with TiffImage(tmp_path / "a.tif") as image:  # uncompressed it can be read by rows
        assert image.read(Window(5990, 5990, 10, 10)).shape == (1, 10, 10)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"photometric": "separated"}, "CMYK"),
        ({"photometric": "cielab", "shape": (64, 64, 3)}, "CIELAB"),
        ({"photometric": "ycbcr", "shape": (64, 64, 3)}, "YCbCr"),
    ],
)
def test_colours_other_than_rgb_are_refused(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    pixels = np.zeros(options.pop("shape", (64, 64, 4)), np.uint8)
    save_tiff(tmp_path / "a.tif", pixels, **options)
    assert f"holds {said} colours: convert it to RGB" in refused(tmp_path / "a.tif")


def test_planes_in_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    save_tiff(path, draw_pixels("u2", (2, 64, 64)), ome=True, metadata=CYX)
    text = str(tifffile.tiffcomment(path)).replace('SizeC="2"', 'SizeC="4"')
    tifffile.tiffcomment(path, text)
    assert "holds 2 of its 4 planes, wanted all in one file" in refused(path)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in the header": lambda content: content[:40],
    "no TIFF": lambda content: b"x" * 4000,
    "cut in the pixels": lambda content: content[:-2000],
    "garbled pixels": lambda content: content[:-3000] + b"\xff" * 3000,
}


@pytest.mark.parametrize(
    ("damage", "compression"),
    [(d, c) for d in DAMAGED for c in ("zlib", "lzw", "zstd", None) if c or d != "garbled pixels"],
)
def test_damaged_files_are_named(damage: str, compression: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 50, (3, 128, 128), np.uint16)
    tile = (64, 64) if compression else None
    save_tiff(path, pixels, metadata=CYX, compression=compression, tile=tile)
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    with pytest.raises(TissueDataError) as caught, TiffImage(path) as image:
        image.read(whole(image.size))
    assert str(caught.value).startswith(f"{path} cannot be read, is it damaged? (")
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "none.tif cannot be read" in refused(tmp_path / "none.tif")


def save_ome(path: Path, **metadata: Any) -> Path:
    save_tiff(path, draw_pixels("u2", (2, 64, 64)), ome=True, metadata=CYX | metadata)
    return path


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [
        (0.325, "µm", 0.325),
        (325.0, "nm", 0.325),
        (0.000325, "mm", 0.325),
        (0.0000325, "cm", 0.325),
        (10_000.0, "µm", None),  # a placeholder
        (0.0, "µm", None),
        (1.0, "pixel", None),
    ],
)
def test_ome_states_the_scale_in_many_units(
    size: float, unit: str, mpp: float | None, tmp_path: Path
) -> None:
    sides = {f"PhysicalSize{side}": size for side in "XY"}
    units = {f"PhysicalSize{side}Unit": unit for side in "XY"}
    with TiffImage(save_ome(tmp_path / "a.ome.tif", **sides, **units)) as image:
        assert image.mpp == (mpp and pytest.approx(mpp))


def test_pixels_that_are_not_square_are_refused(tmp_path: Path) -> None:
    path = save_ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.5, PhysicalSizeY=0.502)
    with TiffImage(path) as image:
        assert image.mpp == 0.5
    path = save_ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.5, PhysicalSizeY=0.52)
    assert "claims pixels of 0.52 × 0.5 µm (height × width), wanted squares" in refused(path)


def test_imagej_states_the_scale_and_the_names(tmp_path: Path) -> None:
    metadata = CYX | {"unit": "um", "Labels": ["DAPI", "CD3"]}
    pixels = draw_pixels("u2", (2, 64, 64))
    save_tiff(tmp_path / "a.tif", pixels, imagej=True, resolution=(4, 4), metadata=metadata)
    with TiffImage(tmp_path / "a.tif") as image:
        assert (image.mpp, image.names) == (0.25, ("DAPI", "CD3"))


@pytest.mark.parametrize(
    ("per_unit", "unit", "mpp"), [(40_000, 3, 0.25), (28, 3, None), (72, 2, None), (1, 1, None)]
)
def test_resolution_tags_count_when_they_can_be_true(
    per_unit: int, unit: int, mpp: float | None, tmp_path: Path
) -> None:
    options = {"resolution": (per_unit, per_unit), "resolutionunit": unit}
    save_tiff(tmp_path / "a.tif", draw_pixels("u1", (64, 64)), **options)
    with TiffImage(tmp_path / "a.tif") as image:
        assert image.mpp == mpp


def test_aperio_states_the_scale_in_its_description(tmp_path: Path) -> None:
    text = "Aperio Image Library v12.0.15\n128x128 [0,0 128x128] (64x64) |AppMag = 40|MPP = 0.2525"
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "jpeg"}
    pixels = draw_pixels("u1", (128, 128, 3))
    save_tiff(tmp_path / "a.svs", pixels, description=text, metadata=None, **options)
    with TiffImage(tmp_path / "a.svs") as image:
        assert image.mpp == 0.2525
        np.testing.assert_array_equal(
            image.read(whole(image.size)), read_whole(tmp_path / "a.svs"), strict=True
        )


def test_channel_names_are_text_and_complete_or_none(tmp_path: Path) -> None:
    names = {"Channel": {"Name": ["CD3", "1e3"]}}
    with TiffImage(save_ome(tmp_path / "a.ome.tif", **names)) as image:
        assert image.names == ("CD3", "1e3")
    with TiffImage(save_ome(tmp_path / "b.ome.tif")) as image:
        assert image.names is None
