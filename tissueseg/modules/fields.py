"""Which parts of which validation tissues are shown, and what there is to see in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.data.datamodule import TissueDataModule
from tissueseg.drawing import CHANNEL_COLORS
from tissueseg.heads import scored_classes
from tissueseg.inspection.sp_picture import shown_channels, sp_picture
from tissueseg.modules.panels import Panel
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore


def open_fields(
    data: TissueDataModule, heads: Collection[str], count: int, size_px: int, side: str = "val"
) -> list[Panel]:
    """Read the central field of the first `count` tissues of a side.

    Args:
        data: with a split.
        heads: of the decoder, which tell what is shown: classes, or nuclei.
        count: tissues at most.
        size_px: side of a field at most.
        side: of the split.
    """
    tissues = getattr(data.split, side)[:count]
    channels = shown_channels(data.store, tissues)
    fields = [_field(data, i, tissue, size_px, channels) for i, tissue in enumerate(tissues)]
    return fields if "classes" in heads else [_nuclei(field, heads) for field in fields]


def _field(
    data: TissueDataModule, index: int, tissue: str, size_px: int, channels: Sequence[int]
) -> Panel:
    store, entry = data.store, data.store.entry(tissue)
    height, width = min(size_px, entry.height), min(size_px, entry.width)
    y, x = (entry.height - height) // 2, (entry.width - width) // 2
    window = Window(y, x, height, width)
    images = {}
    if "he" in data.normaliser.modality.images:
        images["H&E"] = np.ascontiguousarray(store.read(tissue, "he", window).transpose(1, 2, 0))
    if "sp" in data.normaliser.modality.images:
        planes = store.read(tissue, "sp", window)[list(channels)]
        images[_sp_title(store, channels)] = sp_picture(store, tissue, planes, channels)
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


def _nuclei(field: Panel, heads: Collection[str]) -> Panel:
    """A field whose truth is nucleus or not."""
    known = (field.classes != IGNORE) | (field.labels > 0)
    truth = np.where(known, field.labels > 0, IGNORE).astype(np.uint8)
    return replace(field, classes=truth, table=scored_classes(heads, field.table))


def _sp_title(store: TissueStore, channels: Sequence[int]) -> str:
    names = zip((store.panel[i].name for i in channels), CHANNEL_COLORS, strict=False)
    return "SP: " + ", ".join(f"{name} {color}" for name, color in names)
