"""Input that looks odd and means something all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
from PIL import Image

from spoilt.spoiling import table


def odd_names(folder: Any) -> None:
    for file in list(folder.path.glob("a.*")):
        file.rename(folder.path / file.name.replace("a.", "größe 3 µm – Ä.", 1))


def big_endian(folder: Any) -> None:
    for name in ("a", "b"):
        path = folder.path / f"{name}.sp.tif"
        tifffile.imwrite(path, tifffile.imread(path), byteorder=">", metadata={"axes": "CYX"})


def rgba(folder: Any) -> None:
    path = folder.path / "a.he.png"
    Image.open(path).convert("RGBA").save(path)


def palette(folder: Any) -> None:
    """A class mask painted with 256 colours: its indices count."""
    path = folder.path / "a.classes.png"
    with Image.open(path) as image:
        painted = image.convert("P")
        painted.putdata(np.asarray(image).ravel().tolist())
    painted.save(path)


def floats(folder: Any) -> None:
    path = folder.path / "a.nuclei.tif"
    tifffile.imwrite(path, tifffile.imread(path).astype(np.float32))


def big_tiff(folder: Any) -> None:
    path = folder.path / "a.sp.tif"
    tifffile.imwrite(
        path, tifffile.imread(path), bigtiff=True, compression="zlib", metadata={"axes": "CYX"}
    )


def capitals(folder: Any) -> None:
    for name in ("a", "b"):
        (folder.path / f"{name}.he.png").rename(folder.path / f"{name}.HE.PNG")
    folder.describe(images={"he": "{id}.HE.PNG"}, channels=None)


def windows_table(folder: Any) -> None:
    ids = np.unique(tifffile.imread(folder.path / "a.nuclei.tif"))[1:]
    rows = "\r\n".join(f"{i};tumor;1,5" for i in ids)
    table(f"id;type;area\r\n{rows}\r\n", "utf-8-sig")(folder)


ODD = {
    "names with spaces and umlauts": odd_names,
    "big-endian TIFF": big_endian,
    "BigTIFF with deflate": big_tiff,
    "RGBA": rgba,
    "palette PNG as class mask": palette,
    "labels that went through floats": floats,
    "suffixes in capitals": capitals,
    "a table from a spreadsheet": windows_table,
}
