"""Image files that are decoded whole, such as PNG, JPEG and npy, asked for as TIFFs are: by window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window
from tissueseg.store.reading.rasters import IMAGE_SUFFIXES, TIFF_SUFFIXES, read_sp
from tissueseg.store.reading.tiff import TiffImage


class WholeImage:
    """An image in memory; its attributes are those of a `TiffImage`.

    Args:
        path: PNG, JPEG, npy or npz.
        channels: how many it has, if known; decides what an axis without meaning is.

    Raises:
        TissueDataError: damaged, or not one plane per channel.
    """

    def __init__(self, path: Path, channels: int | None = None) -> None:
        self.path = path
        self._pixels, raster = read_sp(path, channels)
        self.names, self.mpp = raster.names, raster.mpp
        self.dtype = raster.data.dtype  # as in the file; wide types are read as float32
        self.channels, height, width = self._pixels.shape
        self.size = (height, width)

    def read(self, window: Window, channels: Sequence[int] | None = None) -> np.ndarray:
        """Pixels of a window inside the image, (C, h, w); of some channels, in their order."""
        y, x, height, width = window
        chosen = slice(None) if channels is None else list(channels)
        return self._pixels[:, y : y + height, x : x + width][chosen]


def open_image(path: Path, channels: int | None = None) -> TiffImage | WholeImage:
    """An image of any kind that can be read; of a TIFF only its headers are read yet.

    Args:
        path: of the file.
        channels: how many it has, if known.

    Raises:
        TissueDataError: missing, no image, or one that cannot be read.
    """
    if not path.is_file():
        raise TissueDataError(f"{path} is missing or no file: mend the path of the image.")
    suffixes = (*IMAGE_SUFFIXES, ".svs")
    if not path.name.lower().endswith(suffixes):
        raise TissueDataError(f"{path} is no image that can be read: wanted {', '.join(suffixes)}.")
    return TiffImage(path, channels) if is_windowed(path) else WholeImage(path, channels)


def is_windowed(path: Path) -> bool:
    """Whether a file is read by window, so that it may be larger than memory: TIFFs are."""
    return path.name.lower().endswith((*TIFF_SUFFIXES, ".svs"))
