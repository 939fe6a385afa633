"""Images decoded whole answer as those do that are read by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.reading.whole import WholeImage, open_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)


def save(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, PIXELS)
    elif path.suffix == ".npz":
        np.savez(path, PIXELS)
    elif path.suffix == ".png":
        Image.fromarray(PIXELS).save(path)
    else:
        tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz", "a.tif", "A.TIFF", "a.svs"])
def test_every_kind_of_file_gives_the_same_windows(tmp_path: Path, name: str) -> None:
    save(tmp_path / name)
    image = open_image(tmp_path / name, 3)
    assert isinstance(image, TiffImage if ".t" in name.lower() or ".svs" in name else WholeImage)
    assert (image.channels, image.size, image.dtype) == (3, (40, 52), np.uint8)
    assert (image.names, image.mpp) == (None, None)
    part = np.moveaxis(PIXELS[5:25, 30:52], -1, 0)
    window = Window(5, 30, 20, 22)
    np.testing.assert_array_equal(image.read(window), part)
    np.testing.assert_array_equal(image.read(window, [2, 0]), part[[2, 0]])


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TissueDataError, match="b is missing or no file"):
        open_image(tmp_path / "b")
    (tmp_path / "b.zip").write_bytes(b"")
    with pytest.raises(TissueDataError, match=r"b\.zip is no image that can be read: wanted"):
        open_image(tmp_path / "b.zip")
