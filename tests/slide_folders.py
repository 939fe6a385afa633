"""Small whole slides for tests: pyramidal, tiled OME-TIFFs of one synthetic tissue with known pixels.

And single TIFFs of any layout, for tests of how these are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
import yaml

from tissueseg.errors import TissuesegError
from tissueseg.store.planes import LazyTissue, Planes, Window, whole
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.sources.orion import OrionSource

CHANNELS = ("DNA", "CD3", "CD8", "CD20", "panCK")
TYPES = ("tumor", "T_h", "T_tox", "unclear")  # of cells, by id; every fifth is in no table


class SlideImages(NamedTuple):
    """All pixels of one slide."""

    he: np.ndarray  # (H, W, 3) uint8
    sp: np.ndarray  # (5, H, W) uint16
    labels: np.ndarray  # (H, W) int32

    @property
    def classes(self) -> np.ndarray:
        """Class image of `TYPES` for the classes of `describe`; 255: in no table, or unclear."""
        by_rest = np.array([255, 1, 2, 2, 255], np.uint8)
        return np.where(self.labels > 0, by_rest[self.labels % 5], 0).astype(np.uint8)


def draw_slide(height: int = 300, width: int = 420, seed: int = 0) -> SlideImages:
    """Random pixels, with square cells of 9 px in every 12; ids have gaps and grow to the right."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    ids = 7 + 3 * (rows // 12 * -(-width // 12) + columns // 12)
    inside = (rows % 12 < 9) & (columns % 12 < 9)
    return SlideImages(
        rng.integers(0, 256, (height, width, 3), np.uint8),
        rng.integers(0, 60_000, (len(CHANNELS), height, width), np.uint16),
        np.where(inside, ids, 0).astype(np.int32),
    )


class SlideFolder:
    """A user's folder of slides: `a.he.ome.tif`, `a.sp.ome.tif`, `a.labels.ome.tif`, `a.csv`, …"""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.description: dict[str, Any] = {
            "images": {"he": "{id}.he.ome.tif", "sp": "{id}.sp.ome.tif"},
            "masks": {
                "instances": "{id}.labels.ome.tif",
                "types": {"file": "{id}.csv", "id": "CellID", "type": "phenotype"}
                | {"untyped": ["unclear"]},
            },
            "classes": ["background", "tumor", {"name": "t_cell", "types": ["T_h", "T_tox"]}],
            "untyped": "ignore",
        }

    def add(self, name: str, images: SlideImages) -> None:
        """Write a slide and its table of cells."""
        self.save_he(name, images.he)
        self.save_sp(name, images.sp)
        self.save_labels(name, images.labels)
        ids = np.unique(images.labels[images.labels > 0])
        rows = [f"{i},{i / 2},{TYPES[i % 5 - 1]}" for i in ids if i % 5]
        (self.path / f"{name}.csv").write_text("\n".join(["CellID,x,phenotype", *rows[::-1]]))

    def save_he(
        self, name: str, image: np.ndarray, mpp: float | None = 0.5, **options: Any
    ) -> None:
        options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib"} | options
        metadata = {"axes": "YXS"} | physical_size(mpp)
        write_pyramid(self.path / f"{name}.he.ome.tif", image, metadata, **options)

    def save_sp(
        self,
        name: str,
        image: np.ndarray,
        mpp: float | None = 0.5,
        names: Sequence[str] | None = CHANNELS,
        **options: Any,
    ) -> None:
        metadata = {"axes": "CYX"} | physical_size(mpp)
        metadata |= {"Channel": {"Name": list(names)}} if names else {}
        options = {"tile": (64, 64), "compression": "zlib", "photometric": "minisblack"} | options
        write_pyramid(self.path / f"{name}.sp.ome.tif", image, metadata, **options)

    def save_labels(self, name: str, image: np.ndarray, **options: Any) -> None:
        options = {"tile": (64, 64), "compression": "zlib"} | options
        path = self.path / f"{name}.labels.ome.tif"
        tifffile.imwrite(path, image, ome=True, metadata={"axes": "YX"}, **options)

    def describe(self, **changes: Any) -> None:
        """Write the description; None takes a key out."""
        merged = {k: v for k, v in (self.description | changes).items() if v is not None}
        (self.path / "slides.yaml").write_text(yaml.safe_dump(merged), encoding="utf-8")

    def write(self, name: str, *lines: str) -> None:
        """Write a table."""
        (self.path / name).write_text("\n".join(lines), encoding="utf-8")


def physical_size(mpp: float | None) -> dict[str, Any]:
    if mpp is None:
        return {}
    sides = {f"PhysicalSize{side}": mpp for side in "XY"}
    return sides | {f"PhysicalSize{side}Unit": "µm" for side in "XY"}


def write_pyramid(path: Path, image: np.ndarray, metadata: dict[str, Any], **options: Any) -> None:
    """An OME-TIFF whose second level, at half resolution, lies in SubIFDs."""
    small = image[::2, ::2] if metadata["axes"] == "YXS" else image[:, ::2, ::2]
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(image, subifds=1, metadata=metadata, **options)
        file.write(small, subfiletype=1, **options)


def refused(folder: SlideFolder, **changes: Any) -> str:
    """The one line a user gets, before a pixel is decoded."""
    folder.describe(**changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TiffImage, "read", None)
        with pytest.raises(TissuesegError) as caught:
            OrionSource(folder.path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(tissue: LazyTissue) -> Planes:
    return tissue.read(whole(tissue.shape))


def check_planes(found: Planes, slide: SlideImages, window: Window) -> None:
    y, x, height, width = window
    part = (slice(y, y + height), slice(x, x + width))
    assert found.he is not None
    assert found.sp is not None
    np.testing.assert_array_equal(found.he, np.moveaxis(slide.he[part], -1, 0), strict=True)
    np.testing.assert_array_equal(found.sp, slide.sp[(..., *part)], strict=True)
    np.testing.assert_array_equal(found.instances, slide.labels[part])
    np.testing.assert_array_equal(found.classes, slide.classes[part])


def draw_pixels(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth in places and random in others, so that compressions and predictors have work."""
    noise = np.random.default_rng(0).integers(0, 200, shape)
    return (noise * (np.arange(shape[-1]) % 50 > 25)).astype(dtype)


def save_tiff(path: Path, image: Any = None, **options: Any) -> None:
    """Write a TIFF in which three channels are not taken for colours."""
    if options.get("imagej") is None:
        options = {"photometric": "minisblack"} | options
    tifffile.imwrite(path, image, **options)


def read_whole(path: Path) -> np.ndarray:
    """(C, H, W) as tifffile reads the whole of it."""
    image = np.squeeze(tifffile.imread(path))
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        return np.moveaxis(image, -1, 0)
    return image.reshape(-1, *image.shape[-2:])
