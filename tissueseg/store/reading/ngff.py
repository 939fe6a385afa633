"""OME-Zarr images (OME-NGFF 0.5, https://ngff.openmicroscopy.org/0.5/), read by window.

Zarr fills what was never written: an image whose chunks were lost on the way reads as zeros, without a
word. So the files of its chunks are looked for when it is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from tissueseg.errors import TissueDataError, TissuesegError
from tissueseg.store.planes import Window

_MICROMETRES = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}


class NgffImage:
    """The full resolution of an OME-Zarr image.

    Attributes:
        shape: channels, height and width.
        names: channel names, if it carries any.
        mpp: µm per pixel along y and x; None: it does not say.
        chunks: files its pixels should lie in.
        missing: those that are not there, whose pixels read as the fill value.

    Raises:
        TissueDataError: no OME-Zarr of version 0.5, or one without pixels.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            about = _attributes(path)
            multiscale = about["multiscales"][0]
            level = _plain_name(path, str(multiscale["datasets"][0]["path"]))
            self._axes = "".join(str(axis["name"]) for axis in multiscale["axes"])
            self._array = _open_array(path / level)
            self.mpp = _scale(multiscale)
            self.names = _labels(about)
        except TissuesegError:
            raise
        except Exception as error:  # metadata may have any form
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise TissueDataError(f"{path} is no OME-Zarr image ({reason}).") from error
        self.shape = self._find_shape()
        self.dtype = self._array.dtype
        self.chunks, self.missing = self._count_chunks(path / level)

    def read(self, window: Window, channels: Sequence[int] | None = None) -> np.ndarray:
        """Pixels of a window.

        Args:
            window: rows and columns.
            channels: positions of those to read; None: all.

        Returns:
            (channels, height, width), in the file's type.
        """
        y, x, height, width = window
        chosen = slice(None) if channels is None else list(channels)
        index = {"y": slice(y, y + height), "x": slice(x, x + width), "c": chosen}
        try:
            found = self._array.oindex[tuple(index.get(axis, slice(0, 1)) for axis in self._axes)]
        except Exception as error:  # codecs raise anything at all on damaged chunks
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise TissueDataError(
                f"{self.path} cannot be read at row {y}, column {x}, is it damaged? ({reason})"
            ) from error
        pixels = np.asarray(found)
        kept = [axis for axis in self._axes if axis in "cyx"]
        pixels = pixels.reshape(
            [n for n, a in zip(pixels.shape, self._axes, strict=True) if a in kept]
        )
        ordered = [kept.index(axis) for axis in "cyx" if axis in kept]
        pixels = pixels.transpose(ordered)
        return pixels if "c" in kept else pixels[None]

    def _find_shape(self) -> tuple[int, int, int]:
        sizes = dict(zip(self._axes, self._array.shape, strict=False))
        others = [axis for axis, size in sizes.items() if axis not in "cyx" and size != 1]
        fits = len(sizes) == self._array.ndim == len(self._axes)
        if not fits or others or not {"y", "x"} <= set(sizes):
            raise TissueDataError(
                f"{self.path} has axes {list(self._axes)} of {self._array.shape}, wanted c, y and x: "
                "project or split the others."
            )
        if self._array.dtype.kind not in "biuf":
            raise TissueDataError(f"{self.path} holds {self._array.dtype} values, wanted numbers.")
        return sizes.get("c", 1), sizes["y"], sizes["x"]

    def _count_chunks(self, folder: Path) -> tuple[int, int]:
        """Files that the shape asks for, and how many of these there are not."""
        sides = self._array.shards or self._array.chunks
        if not all(sides):
            raise TissueDataError(
                f"{self.path} says its chunks are {sides}, wanted sides of 1 and more: fetch it again."
            )
        wanted = prod(-(-n // side) for n, side in zip(self._array.shape, sides, strict=True))
        files = (file for file in folder.rglob("*") if file.is_file() and file.name != "zarr.json")
        found = sum(1 for _ in files)
        if wanted and not found:
            raise TissueDataError(
                f"{self.path} has no pixels: all {wanted} chunks of its level {folder.name} are missing, "
                "and would read as 0. Fetch the image again."
            )
        return wanted, max(0, wanted - found)


def _plain_name(path: Path, name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name) or ".." in name:
        raise TissueDataError(f"{path} names its level {name!r}, wanted a plain name, such as 0.")
    return name


def _attributes(path: Path) -> dict[str, Any]:
    file = path / "zarr.json"
    if not file.is_file():
        old = any((path / name).exists() for name in (".zattrs", ".zgroup"))
        what = "is OME-Zarr 0.4 (Zarr 2)" if old else "holds no zarr.json"
        raise TissueDataError(f"{path} {what}, wanted OME-Zarr 0.5: convert it or fetch it again.")
    return json.loads(file.read_text(encoding="utf-8"))["attributes"]["ome"]


def _open_array(path: Path) -> zarr.Array:
    if not (path / "zarr.json").is_file():
        raise TissueDataError(
            f"{path.parent} has no pixels: its array {path.name} is missing. Fetch the image again."
        )
    return zarr.open_array(path, mode="r", zarr_format=3)


def _scale(multiscale: dict[str, Any]) -> tuple[float, float] | None:
    """µm per pixel of the first level along y and x, where both have a unit."""
    factors = {axis["name"]: _MICROMETRES.get(axis.get("unit", "")) for axis in multiscale["axes"]}
    if not factors.get("y") or not factors.get("x"):
        return None
    found = dict.fromkeys(factors, 1.0)
    for holder in (multiscale["datasets"][0], multiscale):
        for step in holder.get("coordinateTransformations", []):
            if step["type"] == "scale":
                for axis, value in zip(found, step["scale"], strict=True):
                    found[axis] *= float(value)
    return found["y"] * (factors["y"] or 0), found["x"] * (factors["x"] or 0)


def _labels(about: dict[str, Any]) -> tuple[str, ...] | None:
    channels = about.get("omero", {}).get("channels", [])
    names = [channel.get("label") for channel in channels]
    return tuple(str(n) for n in names) if names and all(n is not None for n in names) else None
