"""Writing a tissue store, once and whole: a failed or interrupted writer leaves nothing at the path."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from tissueseg.contracts import Channel, TissueClass
from tissueseg.errors import TissueDataError
from tissueseg.store import layout
from tissueseg.store.checks import Tissue, check_classes, check_tissue
from tissueseg.store.statistics import channel_statistics
from tissueseg.store.tissues import TissueEntry, stored_attributes


class TissueWriter:
    """Writes a new store; it appears at its path only when the `with` block ends well.

    Args:
        path: where the store will stand; must not exist unless `overwrite`.
        mpp: µm per pixel of every tissue; None: not known.
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
        mpp: float | None,
        classes: Sequence[TissueClass],
        panel: Sequence[Channel] = (),
        images: Sequence[str] = layout.IMAGES,
        overwrite: bool = False,
    ) -> None:
        check_classes(classes)
        self.path = Path(path)
        if not self.path.name:
            raise TissueDataError(f"{path} names no store: give a path such as cohort.zarr.")
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
        patient, digest = tissue.patient or name, _digest(tissue)
        self._entries.append(TissueEntry(name, patient, height, width, digest))

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
        parents = (self.path.parent, *self.path.parent.parents)
        self._made = [parent for parent in parents if not parent.exists()]
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
            for parent in self._made:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()

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


def _digest(tissue: Tissue) -> str:
    """What a tissue is known by wherever it is stored: its pixels, not its name."""
    hashed = hashlib.sha256()
    for plane in (tissue.he, tissue.sp, tissue.instances, tissue.classes):
        if plane is not None:
            hashed.update(f"{plane.shape}{plane.dtype}".encode())
            hashed.update(np.ascontiguousarray(plane).data)
    return hashed.hexdigest()


def _is_store(path: Path) -> bool:
    """True for tissue stores of any schema: nothing else is ever overwritten."""
    return "tissues" in stored_attributes(path)
