"""One tissue into its group of a store, window by window: checked, written, counted and hashed.

A window is a shard, so that shards are written whole and once. While one is compressed and counted, the
next is read: memory holds two or three of them, however large the slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from tissueseg.contracts import IGNORE, Channel, TissueClass
from tissueseg.errors import TissueDataError
from tissueseg.store import layout
from tissueseg.store.checks import check_planes
from tissueseg.store.counting import ChunkDigest, InstanceCounts
from tissueseg.store.planes import LazyTissue, Planes, Window
from tissueseg.store.statistics import IntensityCounts

_ARRAYS = {"he": "he", "sp": "sp", "instances": layout.INSTANCES, "classes": layout.CLASSES}
_RGB = ("red", "green", "blue")
_NO_LABELS = (
    ("instances", np.zeros((1, 1), np.int32), 0),
    ("classes", np.zeros((1, 1), np.uint8), IGNORE),
)
"""Kind, type and fill value of masks where there are none."""


@dataclass(frozen=True)
class StoreHeader:
    """What all tissues of a store share."""

    mpp: float | None  # µm per pixel; None: not known
    classes: tuple[TissueClass, ...]  # ids 0 … n − 1, background first
    panel: tuple[Channel, ...]  # SP channels, in order; empty without SP
    images: tuple[str, ...]  # of `he` and `sp`, what every tissue has
    moments: Mapping[str, Mapping[str, Sequence[float]]]  # see `Source.moments`


def ingest(group: zarr.Group, name: str, tissue: LazyTissue, header: StoreHeader) -> dict[str, Any]:
    """Write a tissue's images and masks.

    Masks of a tissue without labels are there too, but hold no chunk: readers see no instance, and
    ignored pixels.

    Returns:
        Its attributes: digests, class counts, channel statistics, notices.

    Raises:
        TissueDataError: the tissue contradicts itself or its header.
    """
    shard = layout.shard_px(len(header.panel), tissue.shape)
    arrays, counts = _Arrays(group, tissue.shape, shard), _Counts(tissue.shape)
    counted: Future[None] | None = None
    with ThreadPoolExecutor(1) as counter:
        for window, planes in _read_ahead(tissue, layout.windows(tissue.shape, shard)):
            check_planes(name, planes, header.classes, header.panel)
            planes = _as_stored(planes)
            arrays.check_labels(name, planes)
            if counted:
                counted.result()
            counted = counter.submit(counts.add, window, planes)
            arrays.write(window, planes)
        if counted:
            counted.result()
    arrays.complete_labels()
    statistics = counts.statistics(arrays, tissue.clips)
    _describe(group, header, statistics)
    return counts.attributes(len(header.classes)) | {
        "statistics": statistics,
        "notices": dict(tissue.notices),
    }


def _read_ahead(tissue: LazyTissue, places: Iterator[Window]) -> Iterator[tuple[Window, Planes]]:
    """Windows in order, the next one read in the background."""
    with ThreadPoolExecutor(1) as reader:
        ahead: tuple[Window, Future[Planes]] | None = None
        for window in places:
            reading = (window, reader.submit(tissue.read, window))
            if ahead:
                yield ahead[0], ahead[1].result()
            ahead = reading
        if ahead:
            yield ahead[0], ahead[1].result()


def _as_stored(planes: Planes) -> Planes:
    instances, classes = planes.instances, planes.classes
    if instances is None or classes is None:
        return planes
    return planes._replace(
        instances=instances.astype(np.int32, copy=False),
        classes=classes.astype(np.uint8, copy=False),
    )


def _present(planes: Planes) -> Iterator[tuple[str, np.ndarray]]:
    return ((kind, plane) for kind, plane in planes._asdict().items() if plane is not None)


class _Arrays:
    """The arrays of one tissue, made when the first window says of which type."""

    def __init__(self, group: zarr.Group, shape: tuple[int, int], shard: tuple[int, int]) -> None:
        self._group, self.shape, self.shard = group, shape, shard
        self._arrays: dict[str, zarr.Array] = {}

    def check_labels(self, name: str, planes: Planes) -> None:
        """Refuse windows of which some have labels and some have none."""
        if self._arrays and ("instances" in self._arrays) != (planes.instances is not None):
            raise TissueDataError(
                f"tissue {name}: some windows have labels and others have none, wanted all or none: "
                "mend its source."
            )

    def complete_labels(self) -> None:
        """Make the masks that no window brought; what Zarr fills in is not written."""
        for kind, plane, fill in _NO_LABELS:
            if kind not in self._arrays:
                self._arrays[kind] = self._create(kind, plane, fill)

    def write(self, window: Window, planes: Planes) -> None:
        """Store a window."""
        y, x, height, width = window
        for kind, plane in _present(planes):
            if kind not in self._arrays:
                self._arrays[kind] = self._create(kind, plane)
            self._arrays[kind][..., y : y + height, x : x + width] = plane

    def reread(self, kind: str) -> Iterator[np.ndarray]:
        """Windows of an image once more."""
        for y, x, height, width in layout.windows(self.shape, self.shard):
            yield np.asarray(self._arrays[kind][..., y : y + height, x : x + width])

    def _create(self, kind: str, plane: np.ndarray, fill: int = 0) -> zarr.Array:
        leading = plane.shape[:-2]
        return self._group.require_group(_ARRAYS[kind]).create_array(
            "0",
            shape=(*leading, *self.shape),
            dtype=plane.dtype,
            chunks=(*leading, layout.CHUNK_PX, layout.CHUNK_PX),
            shards=(*leading, *self.shard),
            fill_value=fill,
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
            dimension_names=("c", "y", "x")[-plane.ndim :],
        )


class _Counts:
    """What is counted of a tissue while it passes."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._digests: dict[str, ChunkDigest] = {}
        self._intensities: IntensityCounts | None = None
        self._instances = InstanceCounts()
        self._class_pixels = np.zeros(256, np.int64)

    def add(self, window: Window, planes: Planes) -> None:
        """Hash a window and count what is in it."""
        for kind, plane in _present(planes):
            if kind not in self._digests:
                self._digests[kind] = ChunkDigest(plane, self._shape)
            self._digests[kind].add(window, plane)
        if planes.instances is not None and planes.classes is not None:
            self._class_pixels += np.bincount(planes.classes.ravel(), minlength=256)
            self._instances.add(planes.instances, planes.classes)
        if planes.sp is not None:
            if self._intensities is None:
                self._intensities = IntensityCounts(len(planes.sp), planes.sp.dtype)
            self._intensities.add(planes.sp)

    def statistics(
        self, arrays: _Arrays, clips: Mapping[str, Sequence[float]]
    ) -> list[dict[str, Any]]:
        """Of every SP channel."""
        if self._intensities is None:
            return []
        return self._intensities.statistics(lambda: arrays.reread("sp"), clips)

    def attributes(self, n_classes: int) -> dict[str, Any]:
        """The counts, as stored."""
        return {
            "digests": {kind: digest.hex() for kind, digest in sorted(self._digests.items())},
            "class_pixels": self._class_pixels[:n_classes].tolist(),
            "instances_per_class": self._instances.per_class(n_classes),
        }


def _describe(group: zarr.Group, header: StoreHeader, statistics: Sequence[dict[str, Any]]) -> None:
    """NGFF metadata, which shows each channel up to its own clip."""
    mpp, first = header.mpp, header.images[0]
    if "he" in header.images:
        group["he"].attrs.update(layout.image_metadata("he", mpp, _RGB, [255.0] * 3))
    if "sp" in header.images:
        names = [channel.name for channel in header.panel]
        shown = [max(s["quantiles"]["0.999"]["clip"], 1e-6) for s in statistics]
        group["sp"].attrs.update(layout.image_metadata("sp", mpp, names, shown))
    for kind, table in (("instances", ()), ("classes", header.classes)):
        group[_ARRAYS[kind]].attrs.update(layout.label_metadata(kind, mpp, first, table))
    listed = {"version": layout.NGFF_VERSION, "labels": ["instances", "classes"]}
    group.require_group("labels").attrs["ome"] = listed
