"""Reading a tissue store: one Zarr with every tissue's images, masks and what is known of them.

Windows, never whole tissues, through handles opened once per process.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from tissueseg.contracts import Channel, Modality, TissueClass
from tissueseg.errors import SpecMismatchError, StoreNotFoundError
from tissueseg.store import layout
from tissueseg.store.planes import Window

_OPEN_HANDLES = 4096  # handles hold no pixels: a thousand tissues stay open


class TissueEntry(NamedTuple):
    """What the store's index knows of a tissue."""

    name: str
    patient: str
    height: int
    width: int
    digest: str  # sha256 of images and labels
    split: str | None = None  # the split or fold its source puts it in


class TissueStore:
    """Read access to a tissue store; safe to pickle and to use after a fork.

    Raises:
        StoreNotFoundError: the path is missing or holds no tissue store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        attributes = _root_attributes(self.path)
        self.mpp: float | None = attributes["mpp"]
        self.classes = tuple(TissueClass(**c) for c in attributes["classes"])
        self.panel = tuple(Channel(**c) for c in attributes["panel"])
        self.images: tuple[str, ...] = tuple(attributes["images"])
        self.moments: dict[str, dict[str, list[float]]] = attributes["moments"]
        self._entries = {e[0]: TissueEntry(*e) for e in attributes["tissues"]}
        self._forget_handles()

    @property
    def tissues(self) -> tuple[str, ...]:
        """Names of all tissues, sorted."""
        return tuple(sorted(self._entries))

    def entry(self, tissue: str) -> TissueEntry:
        """Index entry of one tissue."""
        return self._entries[tissue]

    def require(self, modality: Modality) -> None:
        """Refuse a modality whose images the store does not hold."""
        if missing := [kind for kind in modality.images if kind not in self.images]:
            raise SpecMismatchError(
                f"modality={modality.value} needs {missing}, but {self.path} holds only "
                f"{list(self.images)}. Choose modality={'_'.join(self.images)} or another store."
            )

    def digests(self, tissues: Sequence[str] | None = None) -> dict[str, str]:
        """Tissue -> digest of its pixels."""
        return {t: self.entry(t).digest for t in tissues or self.tissues}

    def check_arrays(self, tissues: Sequence[str], modality: Modality) -> None:
        """Refuse tissues whose arrays are gone, before a run is well under way."""
        for tissue in tissues:
            for array in (*modality.images, layout.INSTANCES, layout.CLASSES):
                if not (self.path / tissue / array / "0" / "zarr.json").is_file():
                    raise StoreNotFoundError(
                        f"{self.path} is damaged: tissue {tissue} has no {array}. Prepare it again."
                    )

    def image_channels(self, modality: Modality) -> int:
        """Channels of a modality's stacked image."""
        return sum({"he": 3, "sp": len(self.panel)}[kind] for kind in modality.images)

    def attributes(self, tissue: str) -> dict[str, Any]:
        """Channel statistics, pixels per class and source hashes of one tissue."""
        attributes: Any = zarr.open_group(self.path / tissue, mode="r").attrs[layout.ATTRIBUTE]
        return attributes

    def class_pixels(self, tissues: Sequence[str]) -> np.ndarray:
        """Pixels of each class over some tissues, ignored ones left out; (n_classes,) int64."""
        counts = (np.asarray(self.attributes(t)["class_pixels"], np.int64) for t in tissues)
        return sum(counts, np.zeros(len(self.classes), np.int64))

    def windows(self, tissue: str) -> Iterator[Window]:
        """The windows a tissue was written by: each a shard of every array."""
        shape = self.entry(tissue)[2:4]
        return layout.windows(shape, layout.shard_px(len(self.panel), shape))

    def read(self, tissue: str, array: str, window: Window) -> np.ndarray:
        """Read a window that lies inside the tissue.

        Args:
            tissue: its name.
            array: `he`, `sp`, `labels/instances` or `labels/classes`.
            window: in pixels.

        Returns:
            (C, height, width) for images, (height, width) for labels.
        """
        y, x, height, width = window
        handle = self._handle(tissue, array)
        return np.asarray(handle[..., y : y + height, x : x + width])

    def _handle(self, tissue: str, array: str) -> zarr.Array:
        if self._pid != os.getpid():
            self._forget_handles()
        key = (tissue, array)
        if key not in self._handles:
            self._handles[key] = zarr.open_array(self.path / tissue / array / "0", mode="r")
            if len(self._handles) > _OPEN_HANDLES:
                self._handles.popitem(last=False)
        self._handles.move_to_end(key)
        return self._handles[key]

    def _forget_handles(self) -> None:
        self._pid = os.getpid()
        self._handles: OrderedDict[tuple[str, str], zarr.Array] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handles": OrderedDict(), "_pid": -1}


def _root_attributes(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise StoreNotFoundError(f"no tissue store at {path}: the path does not exist.")
    attributes = stored_attributes(path)
    if "tissues" not in attributes:
        raise StoreNotFoundError(
            f"{path} is not a tissue store: make one with `python -m tissueseg.prepare`."
        )
    if attributes["schema"] != layout.SCHEMA:
        raise StoreNotFoundError(
            f"{path} has schema {attributes['schema']}, this version reads {layout.SCHEMA}: "
            "prepare it again."
        )
    return attributes


def stored_attributes(path: Path) -> dict[str, Any]:
    """What the root says of itself, empty for anything but a tissue store."""
    try:
        stamp: Any = zarr.open_group(path, mode="r").attrs.get(layout.ATTRIBUTE)
    except (OSError, ValueError, KeyError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
