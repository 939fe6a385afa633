"""One region of a whole slide as a tissue: pixels of its TIFFs, and classes from a table of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.store.notices import Notices
from tissueseg.store.planes import Planes, Window
from tissueseg.store.reading.rasters import ALPHA_DROPPED, storable
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.runs import first_pixels
from tissueseg.store.sources.masks import SCATTERED, UNTYPED_IGNORED, check_not_classes
from tissueseg.store.sources.regions import Region
from tissueseg.store.sources.slides import Slide

_DENSE = 2**26  # highest id for which a table with a place for every id is made
_FEW_IDS = 40  # in a window, that may be classes instead of cells
_PIECES = 10  # of so few ids that cells cut by a window's edge do not explain


class CellClasses:
    """Classes of the cells of one slide.

    Args:
        types: id -> class id, of cells whose class is known.
    """

    def __init__(self, types: Mapping[int, int]) -> None:
        types = {i: c for i, c in types.items() if 0 < i <= np.iinfo(np.int64).max}
        ids = np.fromiter(types.keys(), np.int64, len(types))
        order = np.argsort(ids)
        self._ids = ids[order]
        self._classes = np.fromiter(types.values(), np.uint8, len(types))[order]

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Class ids of some cells, 0 where they are not known."""
        if not self._ids.size:
            return np.zeros(ids.shape, np.uint8)
        place = np.searchsorted(self._ids, ids).clip(max=self._ids.size - 1)
        return np.where(self._ids[place] == ids, self._classes[place], 0).astype(np.uint8)


@dataclass
class SlideRegion:
    """Reads windows of a region; see `tissueseg.store.planes.LazyTissue`."""

    region: Region
    slide: Slide
    tiffs: Mapping[str, TiffImage]  # he, sp, labels, those there are
    channels: Sequence[int]  # of the SP image, those to take
    cells: CellClasses | None  # None: all cells are of class 1
    ignore_untyped: bool
    _untyped: np.ndarray = field(init=False, default_factory=lambda: np.empty(0, np.int64))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.region.window.height, self.region.window.width

    @property
    def images(self) -> tuple[str, ...]:
        """Which of `he` and `sp` it has."""
        return tuple(kind for kind in ("he", "sp") if kind in self.tiffs)

    @property
    def patient(self) -> str:
        """Of the slide."""
        return self.slide.patient

    @property
    def split(self) -> str | None:
        """Of the slide."""
        return self.slide.split

    @property
    def clips(self) -> Mapping[str, Sequence[float]]:
        """None: slides state no clips."""
        return {}

    @property
    def notices(self) -> Mapping[str, int]:
        """What was changed; complete after the last window."""
        notices = Notices()
        notices.count(ALPHA_DROPPED, int("he" in self.tiffs and self._he.channels > 3))
        if "sp" in self.tiffs and (dtype := self.tiffs["sp"].dtype) != self._sp_type:
            notices.count(f"SP intensities converted from {dtype} to {self._sp_type}")
        notices.count(UNTYPED_IGNORED, self._untyped.size)
        return notices.found

    def read(self, window: Window) -> Planes:
        """Pixels of a window."""
        height, width = self.shape
        y, x = window.y + self.region.window.y, window.x + self.region.window.x
        if min(window) < 0 or window.y + window.height > height or window.x + window.width > width:
            raise TissueDataError(
                f"tissue {self.region.tissue} is {self.shape} (height, width), which does not hold "
                f"{window}."
            )
        place = window._replace(y=y, x=x)
        he = self._he.read(place)[:3] if "he" in self.tiffs else None
        images = Planes(he=he, sp=self._read_sp(place))
        if "labels" not in self.tiffs:
            return images
        instances = read_labels(self.tiffs["labels"], place)
        return images._replace(instances=instances, classes=self._classify(instances))

    @property
    def _he(self) -> TiffImage:
        return self.tiffs["he"]

    @property
    def _sp_type(self) -> np.dtype:
        return storable(self.tiffs["sp"].dtype, self.tiffs["sp"].path)

    def _read_sp(self, place: Window) -> np.ndarray | None:
        if "sp" not in self.tiffs:
            return None
        return self.tiffs["sp"].read(place, self.channels).astype(self._sp_type, copy=False)

    def _classify(self, instances: np.ndarray) -> np.ndarray:
        if self.cells is None:
            return (instances > 0).astype(np.uint8)
        ids, _ = first_pixels(instances)
        classes = self.cells.of(ids)
        if self.ignore_untyped:
            self._untyped = np.union1d(self._untyped, ids[classes == 0])
            classes[classes == 0] = IGNORE
        return _paint(instances, ids, classes)


def read_labels(image: TiffImage, window: Window) -> np.ndarray:
    """Instances of a window, (h, w) integers.

    Raises:
        TissueDataError: numbers that are not whole, or a class image or foreground mask.
    """
    labels = image.read(window)[0]
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.rint(labels))
        if not whole.all():
            raise TissueDataError(
                f"{image.path} holds {labels[~whole][0]:g}, wanted whole numbers as ids of instances."
            )
        labels = labels.astype(np.int64)  # went through a float image
    labels = labels.astype(np.uint8) if labels.dtype == bool else labels
    ids, _ = first_pixels(labels)
    if 0 < ids.size <= _FEW_IDS:
        pieces = cv2.connectedComponents((labels > 0).astype(np.uint8))[0] - 1
        if pieces > max(_PIECES, SCATTERED * ids.size):
            check_not_classes(labels, image.path)
    return labels


def _paint(instances: np.ndarray, ids: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Give every pixel the class of its instance.

    Args:
        instances: (h, w) integers.
        ids: all that are > 0 in it, ascending.
        classes: of these.
    """
    if ids.size and ids[-1] < _DENSE and instances.min() >= 0:
        table = np.zeros(ids[-1] + 1, np.uint8)
        table[ids] = classes
        return table[instances]
    known, painted = np.append(0, ids), np.append(0, classes).astype(np.uint8)
    return painted[np.searchsorted(known, instances)]
