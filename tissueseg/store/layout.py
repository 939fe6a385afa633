"""How a tissue store lies on disk: names, chunks, codecs and OME-NGFF 0.5 metadata.

One group per tissue holds an image group per modality (`he`, `sp`) and a `labels` group with
`instances` and `classes`. Each of these is a one-level OME-NGFF multiscale image, so `ome-zarr` and
napari open it as it is; what NGFF has no word for stands under the attribute `tissueseg`.

A tissue without labels has label images too, of which no chunk is written: they read 0 and IGNORE, so
that no reader needs to know. The store's index says which tissues these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tissueseg.contracts import TissueClass
from tissueseg.store.planes import Window

SCHEMA = 2
ATTRIBUTE = "tissueseg"
NGFF_VERSION = "0.5"

IMAGES = ("he", "sp")
INSTANCES = "labels/instances"
CLASSES = "labels/classes"

CHUNK_PX = 256
SHARD_PX = 2048
SHARD_BYTES = 192 * 2**20  # of 16-bit channels; panels of more than 24 take smaller shards

_DISPLAY_COLORS = ("FF0000", "00FF00", "0000FF", "00FFFF", "FF00FF", "FFFF00", "FFFFFF")


def shard_px(channels: int, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of a tissue's shards: as large as fits in memory several times.

    Args:
        channels: of the SP panel.
        shape: height and width of the tissue, px.
    """
    side = SHARD_PX
    while side > CHUNK_PX and 2 * channels * side**2 > SHARD_BYTES:
        side //= 2
    height, width = (min(side, -(-length // CHUNK_PX) * CHUNK_PX) for length in shape)
    return max(height, CHUNK_PX), max(width, CHUNK_PX)


def windows(shape: tuple[int, int], shard: tuple[int, int]) -> Iterator[Window]:
    """Shards of a tissue in rows, cut at its edges: what it is written and read by."""
    for y in range(0, shape[0], shard[0]):
        for x in range(0, shape[1], shard[1]):
            yield Window(y, x, min(shard[0], shape[0] - y), min(shard[1], shape[1] - x))


def image_metadata(
    name: str,
    mpp: float | None,
    channels: Sequence[str],
    windows: Sequence[float],
    levels: int = 1,
) -> dict[str, Any]:
    """NGFF attributes of a channel-first image, shown from 0 to each channel's window."""
    shown = [
        {
            "label": channel,
            "color": _DISPLAY_COLORS[i % len(_DISPLAY_COLORS)],
            "active": i < 3,
            "window": {"start": 0.0, "min": 0.0, "end": window, "max": window},
        }
        for i, (channel, window) in enumerate(zip(channels, windows, strict=True))
    ]
    axes = [{"name": "c", "type": "channel"}, *_plane(mpp)]
    multiscale = _multiscale(name, axes, mpp or 1.0, levels)
    ome = {"version": NGFF_VERSION, "multiscales": [multiscale], "omero": {"channels": shown}}
    return {"ome": ome}


def label_metadata(
    name: str,
    mpp: float | None,
    image: str,
    classes: Sequence[TissueClass] = (),
    levels: int = 1,
) -> dict[str, Any]:
    """NGFF attributes of a label image over `image`, with the colours of classes if it shows them."""
    label: dict[str, Any] = {"source": {"image": f"../../{image}"}}
    if classes:
        colors = [{"label-value": c.id, "rgba": [*c.rgb, 255 * (c.id > 0)]} for c in classes]
        names = [{"label-value": c.id, "class": c.name} for c in classes]
        label |= {"colors": colors, "properties": names}
    multiscale = _multiscale(name, _plane(mpp), mpp or 1.0, levels)
    ome = {"version": NGFF_VERSION, "multiscales": [multiscale], "image-label": label}
    return {"ome": ome}


def _plane(mpp: float | None) -> list[dict[str, str]]:
    unit = {} if mpp is None else {"unit": "micrometer"}  # NGFF: without a unit, pixels
    return [{"name": axis, "type": "space"} | unit for axis in "yx"]


def _multiscale(name: str, axes: list[dict[str, str]], pixel: float, levels: int) -> dict[str, Any]:
    """Levels `0`, `1`, …, each of half the one before; the first pixel's corner stays the origin."""
    datasets: list[dict[str, Any]] = []
    for level in range(levels):
        scale = [pixel * 2.0**level if axis["type"] == "space" else 1.0 for axis in axes]
        transformations = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    return {"name": name, "axes": axes, "datasets": datasets}
