"""A whole slide of any size, laid out of a few drawn tissues, written as labs write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import yaml

from tissueseg.store.demo import CLASSES, PANEL, DemoParameters, DemoTissue, draw_tissue

TILE_PX = 512
VARIANTS = 4
STRIDE = 1000  # ids a tile may use


def write_slide(folder: Path, side_px: int, channels: int, filled: float = 1.0) -> None:
    """`slide.ome.tif` (C, side, side) uint16, `slide.labels.tif`, `slide.csv` and `slides.yaml`.

    Tiles of 512 px, deflate with predictor; each is one of a few drawn ones, with ids of its own.

    Args:
        folder: to write to.
        side_px: height and width.
        channels: of the SP image.
        filled: share of the rows of tiles that hold tissue; the others hold zeros.
    """
    drawn = [draw_tissue(DemoParameters(size_px=TILE_PX), i) for i in range(VARIANTS)]
    grid = -(-side_px // TILE_PX)
    places = [
        (y * grid + x, drawn[(y * 7 + x) % VARIANTS] if y < filled * grid else None)
        for y, x in np.ndindex(grid, grid)
    ]
    _write_image(folder / "slide.ome.tif", side_px, channels, drawn, [d for _, d in places])
    labels = (_encode(_labels(d, place)) for place, d in places)
    _write(folder / "slide.labels.tif", labels, (side_px, side_px), np.int32)
    with (folder / "slide.csv").open("w") as table:
        table.write("id,type\n")
        for place, tissue in places:
            table.writelines(_rows(tissue, place) if tissue else ())
    (folder / "slides.yaml").write_text(
        yaml.safe_dump(
            {
                "images": {"sp": "{id}.ome.tif"},
                "masks": {"instances": "{id}.labels.tif", "types": {"file": "{id}.csv"}},
                "classes": [c.name for c in CLASSES],
            }
        )
    )


def _write_image(
    path: Path,
    side_px: int,
    channels: int,
    drawn: list[DemoTissue],
    tiles: list[DemoTissue | None],
) -> None:
    names = [PANEL[c].name if c < len(PANEL) else f"marker {c}" for c in range(channels)]
    meta: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": names}}
    for side in "XY":
        meta |= {f"PhysicalSize{side}": 0.5, f"PhysicalSize{side}Unit": "µm"}
    empty = _encode(np.zeros((TILE_PX, TILE_PX), np.uint16))

    def encoded() -> Iterator[bytes]:
        for c in range(channels):
            of = {id(d): _encode(d.sp[c % len(d.sp)]) for d in drawn}
            yield from (of[id(tile)] if tile else empty for tile in tiles)

    shape = (channels, side_px, side_px)
    _write(path, encoded(), shape, np.uint16, metadata=meta, photometric="minisblack")


def _write(path: Path, tiles: Iterator[bytes], shape: Any, dtype: Any, **options: Any) -> None:
    tiled = {"tile": (TILE_PX, TILE_PX), "compression": "zlib", "predictor": 2, "bigtiff": True}
    tifffile.imwrite(path, tiles, shape=shape, dtype=dtype, **(tiled | options))


def _encode(plane: np.ndarray) -> bytes:
    differences = np.diff(plane, axis=1, prepend=plane.dtype.type(0))
    return imagecodecs.zlib_encode(differences.tobytes(), 6)


def _labels(tissue: DemoTissue | None, place: int) -> np.ndarray:
    if tissue is None:
        return np.zeros((TILE_PX, TILE_PX), np.int32)
    return np.where(tissue.instances > 0, tissue.instances + place * STRIDE, 0).astype(np.int32)


def _rows(tissue: DemoTissue, place: int) -> Iterator[str]:
    ids, first = np.unique(tissue.instances, return_index=True)
    for i, at in zip(ids[1:], first[1:], strict=True):
        yield f"{i + place * STRIDE},{CLASSES[tissue.classes.flat[at]].name}\n"
