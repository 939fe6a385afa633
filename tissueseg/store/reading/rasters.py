"""Image and mask files as arrays: PNG, JPEG, TIFF, OME-TIFF, npy and npz.

Decoders differ in what they let pass silently (16-bit colour cut to 8, channels on an axis called Z);
whatever could change the meaning of a pixel is refused here, with the file's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from tissueseg.errors import TissueDataError
from tissueseg.store.reading.claims import read_claims
from tissueseg.store.reading.lzw import guard
from tissueseg.store.reading.segments import check_volume
from tissueseg.store.reading.tiff import opened, reading

TIFF_SUFFIXES = (".tif", ".tiff")
ARRAY_SUFFIXES = (".npy", ".npz")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
MASK_SUFFIXES = (".png", *TIFF_SUFFIXES, *ARRAY_SUFFIXES)  # no JPEG: it changes values
IMAGE_SUFFIXES = (".jpg", ".jpeg", *MASK_SUFFIXES)

_PNG_BIT_DEPTH = 24  # offset in the file, https://www.w3.org/TR/png-3/#11IHDR
_PNG_COLOR_TYPE = 25
_PNG_RGB = (2, 6)
_PNG_COMPRESSION = 1032  # at most, of zlib: https://zlib.net/zlib_tech.html

ALPHA_DROPPED = "alpha channel of H&E dropped"
"""Notice of an H&E image with a fourth channel."""


class Raster(NamedTuple):
    """A decoded file."""

    data: np.ndarray  # as in the file
    axes: str  # one letter per axis: Y, X, C or S for channels, others as the file says
    names: tuple[str, ...] | None = None  # channel names in the file
    mpp: float | None = None  # µm/px the file claims


class He(NamedTuple):
    """A decoded H&E image."""

    pixels: np.ndarray  # (3, H, W) uint8
    alpha: bool  # whether a fourth channel was dropped
    mpp: float | None  # µm/px the file claims


def read_he(path: Path) -> He:
    """Read an H&E image.

    Raises:
        TissueDataError: not 8-bit RGB, or unreadable.
    """
    raster = _read(path)
    image = _channel_first(path, raster, 3)
    check_he(path, image.dtype, image.shape[0])
    return He(image[:3], image.shape[0] > 3, raster.mpp)


def check_he(path: Path, dtype: np.dtype, channels: int) -> None:
    """Refuse an H&E image that is not 8-bit RGB, with or without alpha.

    Raises:
        TissueDataError: naming the file.
    """
    if dtype != np.uint8:
        raise TissueDataError(
            f"{path}: H&E has {dtype} pixels, wanted 8-bit RGB: scale white to 255 and save as 8-bit."
        )
    if channels not in (3, 4):
        hint = "Is it the SP image?" if channels > 4 else "Save it in colour."
        raise TissueDataError(f"{path}: H&E has {channels} channels, wanted 3 (RGB). {hint}")


def read_sp(path: Path, channels: int | None) -> tuple[np.ndarray, Raster]:
    """Read an SP image.

    Args:
        path: TIFF, PNG, npy or npz.
        channels: how many the description names; decides what an axis without meaning is.

    Returns:
        (C, H, W) in a type the store takes, and the decoded file.
    """
    raster = _read(path)
    stack = _channel_first(path, raster, channels)
    return stack.astype(storable(stack.dtype, path), copy=False), raster


def storable(dtype: np.dtype, path: Path) -> np.dtype:
    """The type in which SP intensities of a type are stored: their own, or float32.

    It follows from the file's type alone, not from its values: all windows of an image have one type,
    and so have all tissues whose files have one.

    Raises:
        TissueDataError: no numbers.
    """
    if dtype.kind not in "biuf":
        raise TissueDataError(f"{path} holds {dtype} values, wanted numbers.")
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    native = dtype.newbyteorder("=")
    return native if native in (np.uint8, np.uint16, np.float32) else np.dtype(np.float32)


def read_mask(path: Path, name: str) -> np.ndarray:
    """Read an instance, class or ignore mask.

    Args:
        path: PNG, TIFF, npy or npz.
        name: the array to take from an npz that holds several.

    Returns:
        (H, W) integers.
    """
    raster = _read(path, name, palette=False)
    kept = [axis for axis, n in zip(raster.axes, raster.data.shape, strict=True) if n > 1]
    if set(kept) - set("YX") or not set("YX") <= set(raster.axes):
        raise TissueDataError(
            f"{path}: mask has shape {raster.data.shape} (axes {raster.axes}), wanted one integer per "
            "pixel: save it as a single-channel image."
        )
    plane = raster.data.reshape([raster.data.shape[raster.axes.index(axis)] for axis in "YX"])
    if plane.dtype.kind == "f" and np.array_equal(plane, np.rint(plane)):
        plane = plane.astype(np.int64)  # labels that went through a float image
    if plane.dtype.kind not in "iub":
        raise TissueDataError(f"{path}: mask has {plane.dtype} values, wanted integers.")
    return plane.astype(np.uint8) if plane.dtype == bool else plane


def read_header(path: Path) -> Raster:
    """Channel names and µm/px a file claims, without its pixels."""
    if not path.name.lower().endswith(TIFF_SUFFIXES):
        return Raster(np.empty(0), "")
    with opened(path) as file:
        return Raster(np.empty(0), "", *read_claims(file))


def open_array(path: Path) -> np.ndarray:
    """An npy file whose values are read when they are asked for.

    Raises:
        TissueDataError: damaged, or a pickle.
    """
    with reading(path):
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        loaded.close()
        raise ValueError("it is an npz, which holds files of its own")


def _read(path: Path, name: str = "", palette: bool = True) -> Raster:
    raster = _decode(path, name, palette)
    if raster.data.size == 0:
        raise TissueDataError(
            f"{path} has shape {raster.data.shape}: it holds no pixels. Save the image again."
        )
    return raster


def _decode(path: Path, name: str, palette: bool) -> Raster:
    suffix = path.suffix.lower()
    with reading(path):
        if suffix in ARRAY_SUFFIXES:
            data = _read_array(path, name)
            return Raster(data, _array_axes(data.shape))
        if suffix in TIFF_SUFFIXES:
            return _read_tiff(path, palette)
        return _read_picture(path, palette)


def _read_array(path: Path, name: str) -> np.ndarray:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        found = [n for n in (name, "arr_0") if n in loaded.files] or loaded.files
        if len(found) != 1 and found[0] not in (name, "arr_0"):
            raise TissueDataError(f"{path} holds the arrays {loaded.files}: name one {name!r}.")
        return loaded[found[0]]


def _array_axes(shape: Sequence[int]) -> str:
    if len(shape) == 3 and shape[-1] in (3, 4) and shape[0] > 4:
        return "YXS"
    return {2: "YX", 3: "QYX"}.get(len(shape), "?" * len(shape))


def _read_picture(path: Path, palette: bool) -> Raster:
    limit, Image.MAX_IMAGE_PIXELS = (
        Image.MAX_IMAGE_PIXELS,
        None,
    )  # tissues are large, and the user's own
    try:
        with Image.open(path) as image:
            _refuse_lossy(path, image)
            return _from_pillow(path, image, palette)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _refuse_lossy(path: Path, image: Image.Image) -> None:
    with path.open("rb") as file:
        head = file.read(_PNG_COLOR_TYPE + 1)
    if image.format == "PNG" and head[_PNG_BIT_DEPTH] == 16 and head[_PNG_COLOR_TYPE] in _PNG_RGB:
        raise TissueDataError(
            f"{path}: 16-bit colour PNG, wanted 8-bit RGB: divide by 257 and save."
        )
    width, height = image.size
    if image.format == "PNG" and width * height > 8 * _PNG_COMPRESSION * path.stat().st_size:
        raise TissueDataError(  # Pillow fills what is missing with zeros, gigabytes of them
            f"{path} claims {width} × {height} px, which its bytes cannot hold: fetch it again."
        )
    if image.format == "TIFF":  # Pillow would cut its 16 bits to 8
        raise TissueDataError(f"{path} holds a TIFF: give it the suffix .tif.")
    if image.mode == "CMYK":
        raise TissueDataError(f"{path} is a CMYK image: convert it to RGB.")


def _from_pillow(path: Path, image: Image.Image, palette: bool) -> Raster:
    if (image.mode == "P" and palette) or image.mode in ("YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    data = np.asarray(image)
    return Raster(data, "YX" if data.ndim == 2 else "YXS")


def _read_tiff(path: Path, palette: bool) -> Raster:
    with opened(path) as file:
        series = file.series[0]
        page = series.keyframe
        photometric, photometrics = page.photometric, tifffile.PHOTOMETRIC
        if photometric == photometrics.SEPARATED:
            raise TissueDataError(f"{path} is a CMYK image: convert it to RGB.")
        if any(series.axes.count(axis) > 1 for axis in "YX"):
            raise TissueDataError(
                f"{path} has axes {series.axes} of {series.shape}, wanted one Y and one X: save it anew."
            )
        raw_ycbcr = (
            photometric == photometrics.YCBCR and page.compression != tifffile.COMPRESSION.JPEG
        )
        if raw_ycbcr or (photometric == photometrics.PALETTE and palette):
            return _read_picture(path, palette)
        check_volume(path, prod(series.shape) * series.dtype.itemsize)
        guard(series)
        return Raster(series.asarray(), series.axes, *read_claims(file))


def _channel_first(path: Path, raster: Raster, channels: int | None) -> np.ndarray:
    data, axes = raster.data, raster.axes
    extra = [i for i, axis in enumerate(axes) if axis not in "YX" and data.shape[i] > 1]
    if "Y" not in axes or "X" not in axes or len(extra) > 1:
        raise TissueDataError(
            f"{path} has axes {axes} of {data.shape}, wanted one plane per channel: split it, or project "
            "the others."
        )
    singles = tuple(i for i, a in enumerate(axes) if a not in "YX" and i not in extra)
    data, axes = (
        np.squeeze(data, singles),
        "".join(a for i, a in enumerate(axes) if i not in singles),
    )
    if not extra:
        return data[None]
    position = next(i for i, axis in enumerate(axes) if axis not in "YX")
    if axes[position] not in "CS" and data.shape[position] != channels:
        raise _ambiguous(path, data, axes, channels)
    return np.moveaxis(data, position, 0)


def _ambiguous(path: Path, data: np.ndarray, axes: str, channels: int | None) -> TissueDataError:
    wanted = f"wanted {channels} first" if channels else "and the description does not list them"
    last = " Its last axis fits: move it to the front." if data.shape[-1] == channels else ""
    return TissueDataError(
        f"{path} has shape {data.shape} with axes {axes}: nothing says which are channels, {wanted}. "
        f"List as many `channels` as it has, or save with axes CYX.{last}"
    )
