"""Which parts of which validation tissues are shown, and what there is to see in them."""

from __future__ import annotations

import numpy as np

from tissueseg.data.datamodule import TissueDataModule
from tissueseg.drawing import composite
from tissueseg.modules.panels import Panel
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.statistics import clip_statistics
from tissueseg.store.tissues import TissueStore


def open_fields(data: TissueDataModule, count: int, size_px: int, side: str = "val") -> list[Panel]:
    """Read the central field of the first `count` tissues of a side, at most `size_px` wide."""
    tissues = getattr(data.split, side)[:count]
    return [_field(data, i, tissue, size_px) for i, tissue in enumerate(tissues)]


def _field(data: TissueDataModule, index: int, tissue: str, size_px: int) -> Panel:
    store, entry = data.store, data.store.entry(tissue)
    height, width = min(size_px, entry.height), min(size_px, entry.width)
    y, x = (entry.height - height) // 2, (entry.width - width) // 2
    window = Window(y, x, height, width)
    images = {}
    if "he" in data.normaliser.modality.images:
        images["H&E"] = np.ascontiguousarray(store.read(tissue, "he", window).transpose(1, 2, 0))
    if "sp" in data.normaliser.modality.images:
        title, picture = _sp_picture(store, tissue, window)
        images[title] = picture
    return Panel(
        name=tissue,
        tissue=index,
        y=y,
        x=x,
        images=images,
        labels=store.read(tissue, INSTANCES, window),
        classes=store.read(tissue, CLASSES, window),
        table=store.classes,
    )


def _sp_picture(store: TissueStore, tissue: str, window: Window) -> tuple[str, np.ndarray]:
    """A nuclear stain in blue and the two most varied other channels in green and red."""
    stored = store.attributes(tissue)["statistics"]
    found = [clip_statistics(s, float(min(s["quantiles"]))) for s in stored]
    spread = np.array([s.log_square - s.log_mean**2 for s in found])
    nuclear = [i for i, channel in enumerate(store.panel) if channel.nuclear][:1]
    varied = [int(i) for i in np.argsort(-spread) if i not in nuclear]
    shown = (nuclear + varied)[:3]
    image = store.read(tissue, "sp", window)
    picture = composite([image[i] for i in shown], [found[i].clip for i in shown])
    names = zip((store.panel[i].name for i in shown), ("blue", "green", "red"), strict=False)
    return "SP: " + ", ".join(f"{name} {color}" for name, color in names), picture
