"""A whole slide of any size, laid out of a few drawn tissues, written as labs write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import yaml

from tissueseg.store.demo import CLASSES, PANEL, DemoParameters, draw_tissue

TILE_PX = 512
VARIANTS = 4
STRIDE = 1000  # ids a tile may use


def write_slide(folder: Path, side_px: int, channels: int) -> None:
    """`slide.ome.tif` (C, side, side) uint16, `slide.labels.tif`, `slide.csv` and `slides.yaml`.

    Tiles of 512 px, deflate with predictor; each is one of a few drawn ones, with ids of its own.
    """
    drawn = [draw_tissue(DemoParameters(size_px=TILE_PX), i) for i in range(VARIANTS)]
    grid = -(-side_px // TILE_PX)
    shape = (channels, side_px, side_px)
    encoded = [[_encode(d.sp[c % len(d.sp)]) for d in drawn] for c in range(channels)]
    names = [PANEL[c].name if c < len(PANEL) else f"marker {c}" for c in range(channels)]
    written = {"tile": (TILE_PX, TILE_PX), "compression": "zlib", "predictor": 2, "bigtiff": True}
    meta = {"axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(
        folder / "slide.ome.tif",
        (
            encoded[c][(y * 7 + x) % VARIANTS]
            for c in range(channels)
            for y, x in np.ndindex(grid, grid)
        ),
        shape=shape,
        dtype=np.uint16,
        photometric="minisblack",
        metadata=meta | {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"},
        **written,
    )
    tifffile.imwrite(
        folder / "slide.labels.tif",
        (
            _encode(_labels(drawn[(y * 7 + x) % VARIANTS].instances, y * grid + x))
            for y, x in np.ndindex(grid, grid)
        ),
        shape=shape[1:],
        dtype=np.int32,
        **written,
    )
    with (folder / "slide.csv").open("w") as table:
        table.write("id,type\n")
        for place, (y, x) in enumerate(np.ndindex(grid, grid)):
            table.writelines(_rows(drawn[(y * 7 + x) % VARIANTS], place))
    (folder / "slides.yaml").write_text(
        yaml.safe_dump(
            {
                "images": {"sp": "{id}.ome.tif"},
                "masks": {"instances": "{id}.labels.tif", "types": {"file": "{id}.csv"}},
                "classes": [c.name for c in CLASSES],
            }
        )
    )


def _encode(plane: np.ndarray) -> bytes:
    return imagecodecs.zlib_encode(np.diff(plane, axis=1, prepend=plane.dtype.type(0)).tobytes(), 6)


def _labels(instances: np.ndarray, place: int) -> np.ndarray:
    return np.where(instances > 0, instances + place * STRIDE, 0).astype(np.int32)


def _rows(drawn: object, place: int) -> Iterator[str]:
    instances, classes = drawn.instances, drawn.classes  # type: ignore[attr-defined]
    ids, first = np.unique(instances, return_index=True)
    for i, at in zip(ids[1:], first[1:], strict=True):
        yield f"{i + place * STRIDE},{CLASSES[classes.flat[at]].name}\n"
