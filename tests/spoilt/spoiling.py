"""Healthy inputs of `prepare`, and ways to spoil a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

SIZE = (40, 48)
Spoil = Callable[[Any], Any]


class Case(NamedTuple):
    """What is done to a healthy input, and what the user must read."""

    spoil: Spoil
    says: tuple[str, ...]
    options: tuple[str, ...] = ()
    make: Callable[[Path], Any] | None = None  # the healthy input; None: a folder of images


def write(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder.path / name).write_bytes(content)


def cut(name: str, length: int) -> Spoil:
    def spoil(folder: Any) -> None:
        path = folder.path / name
        path.write_bytes(path.read_bytes()[:length])

    return spoil


def he(image: np.ndarray, mode: str | None = None) -> Spoil:
    return lambda folder: Image.fromarray(image, mode).save(folder.path / "a.he.png")


def tiff_he(image: np.ndarray, **options: Any) -> Spoil:
    def spoil(folder: Any) -> None:
        for name in ("a", "b"):
            tifffile.imwrite(folder.path / f"{name}.he.tif", image, **options)
        folder.describe(images={"he": "{id}.he.tif"}, channels=None)

    return spoil


def sp(image: np.ndarray, **options: Any) -> Spoil:
    given = {"metadata": {"axes": "CYX"}, "photometric": "minisblack"} | options
    return lambda folder: tifffile.imwrite(folder.path / "a.sp.tif", image, **given)


def npy_sp(image: np.ndarray, **description: Any) -> Spoil:
    def spoil(folder: Any) -> None:
        for name in ("a", "b"):
            np.save(folder.path / f"{name}.sp.npy", image, allow_pickle=True)
        folder.describe(images={"sp": "{id}.sp.npy"}, **description)

    return spoil


def ome_sp(names: list[str | None], **description: Any) -> Spoil:
    def spoil(folder: Any) -> None:
        image = np.ones((len(names), *SIZE), np.uint8)
        channels = {"Channel": {"Name": names}} if all(names) else {}
        for name in ("a", "b"):
            where = folder.path / f"{name}.sp.ome.tif"
            tifffile.imwrite(where, image, ome=True, metadata={"axes": "CYX"} | channels)
        folder.describe(images={"sp": "{id}.sp.ome.tif"}, **description)

    return spoil


def mask(plane: np.ndarray, name: str = "a.nuclei.tif") -> Spoil:
    return lambda folder: tifffile.imwrite(folder.path / name, plane)


def class_mask(plane: np.ndarray) -> Spoil:
    return lambda folder: Image.fromarray(plane).save(folder.path / "a.classes.png")


def table(text: str, encoding: str = "utf-8") -> Spoil:
    def spoil(folder: Any) -> None:
        for name in ("a", "b"):
            (folder.path / f"{name}.csv").write_bytes(text.encode(encoding))
        masks = {"instances": "{id}.nuclei.tif", "types": {"file": "{id}.csv"}}
        folder.describe(masks=masks)

    return spoil


def describe(**changes: Any) -> Spoil:
    return lambda folder: folder.describe(**changes)


def description(text: str) -> Spoil:
    return lambda folder: (folder.path / "tissues.yaml").write_text(text, encoding="utf-8")


def remove(*names: str) -> Spoil:
    return lambda folder: [(folder.path / name).unlink() for name in names]


def loop(folder: Any) -> None:
    """A link that leads to itself by way of another."""
    (folder.path / "a.he.png").unlink()
    (folder.path / "a.he.png").symlink_to("other.png")
    (folder.path / "other.png").symlink_to("a.he.png")


def bomb(folder: Any) -> None:
    """A TIFF of one tile that calls itself 40 000 × 40 000 px."""
    path = folder.path / "a.nuclei.tif"
    tifffile.imwrite(path, np.zeros((256, 256), np.uint16), tile=(256, 256), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        for side in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[side].overwrite(40_000)


def cells(value: Any = None, dtype: Any = np.uint16) -> np.ndarray:
    """Two cells, of ids 4 and 9 or of one value."""
    plane = np.zeros(SIZE, dtype)
    plane[2:12, 2:12] = 4 if value is None else value
    plane[20:30, 20:30] = 9 if value is None else value
    return plane


def scattered() -> np.ndarray:
    """Two ids in many places, as class images have."""
    plane = np.zeros(SIZE, np.uint8)
    plane[::4, ::4], plane[2::4, ::4] = 1, 2
    return plane


def ones(*shape: int, dtype: Any = np.uint16, at: Any = 1) -> np.ndarray:
    image = np.ones(shape, dtype)
    image.flat[7] = at
    return image


RGB = np.full((*SIZE, 3), 200, np.uint8)
