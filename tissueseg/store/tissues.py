"""The tissue store: one Zarr with every tissue's images, masks and what is known of them.

Written once and whole (a failed or interrupted writer leaves nothing at the path), then only read:
windows, never whole tissues, through handles opened once per process.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from tissueseg.contracts import Channel, Modality, TissueClass
from tissueseg.errors import SpecMismatchError, StoreNotFoundError, TissueDataError
from tissueseg.store import layout
from tissueseg.store.checks import Tissue, check_classes, check_tissue
from tissueseg.store.statistics import channel_statistics

_OPEN_HANDLES = 256


class TissueEntry(NamedTuple):
    """What the store's index knows of a tissue."""

    name: str
    patient: str
    height: int
    width: int


class Window(NamedTuple):
    """A rectangle of a tissue, in pixels."""

    y: int
    x: int
    height: int
    width: int


class TissueStore:
    """Read access to a tissue store; safe to pickle and to use after a fork.

    Raises:
        StoreNotFoundError: the path is missing or holds no tissue store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        attributes = _root_attributes(self.path)
        self.mpp: float = attributes["mpp"]
        self.classes = tuple(TissueClass(**c) for c in attributes["classes"])
        self.panel = tuple(Channel(**c) for c in attributes["panel"])
        self.images: tuple[str, ...] = tuple(attributes["images"])
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


class TissueWriter:
    """Writes a new store; it appears at its path only when the `with` block ends well.

    Args:
        path: where the store will stand; must not exist unless `overwrite`.
        mpp: µm per pixel of every tissue.
        classes: ids 0 … n − 1, background first.
        panel: SP channels, in order; empty without SP.
        images: which images every tissue has.
        overwrite: replace a store that stands at the path, once the new one is complete.

    Raises:
        TissueDataError: path taken, or a tissue that contradicts itself.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        mpp: float,
        classes: Sequence[TissueClass],
        panel: Sequence[Channel] = (),
        images: Sequence[str] = layout.IMAGES,
        overwrite: bool = False,
    ) -> None:
        check_classes(classes)
        self.path = Path(path)
        self.mpp, self.classes, self.panel, self.images = mpp, classes, panel, tuple(images)
        self.overwrite = overwrite
        self._partial = self.path.with_name(f".{self.path.name}.partial-{os.getpid()}")
        self._entries: list[TissueEntry] = []
        if self.path.exists() and not overwrite:
            raise TissueDataError(
                f"{self.path} exists already: choose another path or overwrite=true."
            )
        if self.path.exists() and not _is_store(self.path):
            raise TissueDataError(
                f"{self.path} is not a tissue store, so it is not overwritten: choose another path."
            )

    def add(self, name: str, tissue: Tissue) -> None:
        """Check one tissue and write it."""
        if not name or "/" in name or name.startswith((".", "_")) or name in self._names():
            raise TissueDataError(
                f"tissue name {name!r} is taken or not a plain file name: rename it."
            )
        check_tissue(name, tissue, self.images, self.classes, self.panel)
        try:
            self._write_tissue(name, tissue)
        except OSError as error:
            raise TissueDataError(f"cannot write tissue {name} to {self.path}: {error}.") from error
        height, width = tissue.instances.shape
        self._entries.append(TissueEntry(name, tissue.patient or name, height, width))

    def _write_tissue(self, name: str, tissue: Tissue) -> None:
        group = zarr.open_group(self._partial / name, mode="w")
        statistics = self._write_images(group, tissue)
        self._write_labels(group, tissue)
        pixels = np.bincount(tissue.classes.astype(np.uint8).ravel(), minlength=256)
        group.attrs[layout.ATTRIBUTE] = {
            "class_pixels": pixels[: len(self.classes)].tolist(),
            "statistics": statistics,
            "source": tissue.source or {},
        }

    def _names(self) -> list[str]:
        return [entry.name for entry in self._entries]

    def _write_images(self, group: zarr.Group, tissue: Tissue) -> list[dict[str, Any]]:
        statistics: list[dict[str, Any]] = []
        if tissue.he is not None:
            meta = layout.image_metadata("he", self.mpp, ("red", "green", "blue"), [255.0] * 3)
            _write(group, "he", tissue.he, meta)
        if tissue.sp is not None:
            statistics = [channel_statistics(channel) for channel in tissue.sp]
            names = [channel.name for channel in self.panel]
            windows = [max(s["quantiles"]["0.999"]["clip"], 1e-6) for s in statistics]
            _write(group, "sp", tissue.sp, layout.image_metadata("sp", self.mpp, names, windows))
        return statistics

    def _write_labels(self, group: zarr.Group, tissue: Tissue) -> None:
        instances, classes = tissue.instances.astype(np.int32), tissue.classes.astype(np.uint8)
        plain = layout.label_metadata("instances", self.mpp, self.images[0])
        named = layout.label_metadata("classes", self.mpp, self.images[0], self.classes)
        _write(group, layout.INSTANCES, instances, plain)
        _write(group, layout.CLASSES, classes, named)
        listed = {"version": layout.NGFF_VERSION, "labels": ["instances", "classes"]}
        group.require_group("labels").attrs["ome"] = listed

    def __enter__(self) -> TissueWriter:
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            zarr.open_group(self._partial, mode="w")
        except OSError as error:
            raise TissueDataError(f"cannot write a store at {self.path}: {error}.") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        if not self._entries:
            raise TissueDataError(f"no tissue to write to {self.path}: the source is empty.")
        root = zarr.open_group(self._partial, mode="r+")
        root.attrs[layout.ATTRIBUTE] = {
            "schema": layout.SCHEMA,
            "mpp": self.mpp,
            "classes": [asdict(c) for c in self.classes],
            "panel": [asdict(c) for c in self.panel],
            "images": list(self.images),
            "tissues": [list(entry) for entry in self._entries],
        }
        if self.path.exists() and self.overwrite:
            old = self.path.with_name(f".{self.path.name}.old-{os.getpid()}")
            self.path.rename(old)
            try:
                self._partial.rename(self.path)
            except OSError:
                old.rename(self.path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            self._partial.rename(self.path)


def _write(group: zarr.Group, name: str, data: np.ndarray, metadata: Mapping[str, Any]) -> None:
    holder = group.require_group(name)
    holder.attrs.update(metadata)
    chunks, shards = layout.chunk_and_shard(data.shape)
    array = holder.create_array(
        "0",
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
        dimension_names=("c", "y", "x")[-data.ndim :],
    )
    array[...] = data


def _root_attributes(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise StoreNotFoundError(f"no tissue store at {path}: the path does not exist.")
    attributes = _stamp(path)
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


def _is_store(path: Path) -> bool:
    """True for tissue stores of any schema: nothing else is ever overwritten."""
    return "tissues" in _stamp(path)


def _stamp(path: Path) -> dict[str, Any]:
    """What the root says of itself, empty for anything but a tissue store."""
    try:
        stamp: Any = zarr.open_group(path, mode="r").attrs.get(layout.ATTRIBUTE)
    except (OSError, ValueError, KeyError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
