"""How many pixels of every class the tiles of a tissue show: counted once, then kept in the store.

Sampling needs it of every training tile before the first step, and masks of a cohort take minutes to
read.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np

from tissueseg.errors import in_one_line
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.remote import is_remote
from tissueseg.store.tissues import TissueStore

FOLDER = ".tile_counts"

_FORM = 1  # of what is kept; another one is another file
_GROUP = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'
_NO_COUNTS = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile)
"""What numpy raises where a file is gone, damaged or of something else."""


class TileRaster(NamedTuple):
    """Square tiles in rows and columns, which may overlap and reach beyond the tissue."""

    rows: Sequence[int]  # first pixel of each row of tiles
    columns: Sequence[int]  # and of each column
    tile_px: int


class TileCounts:
    """Counts of a store, kept in a hidden folder of it where that can be written to.

    Args:
        store: whose masks are counted.
    """

    def __init__(self, store: TissueStore) -> None:
        self.store = store
        self._folder = None if is_remote(store.address) else store.path / FOLDER
        self._refused = "is remote" if self._folder is None else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """For the user: why counts could not be kept, if so."""
        if not self._refused:
            return ()
        why = f"{self.store.address} {self._refused}"
        return (f"classes are counted tile by tile anew in every run, since {why}",)

    def of(self, tissue: str, raster: TileRaster) -> np.ndarray:
        """(n_tiles, n_classes + 1) int32, tiles in rows: pixels of each class, then of instances.

        Pixels beyond the tissue and ignored ones count in no class; those of an instance without a
        type count as the instance's.

        Raises:
            TissueDataError: the masks are damaged.
        """
        n_classes, digest = len(self.store.classes), self.store.entry(tissue).digest
        made_of = json.dumps([_FORM, digest, n_classes, *(_listed(part) for part in raster)])
        shape = len(raster.rows) * len(raster.columns), n_classes + 1
        if self._folder is None:
            return self._counted(tissue, raster)
        name = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        path = self._folder / f"{tissue}-{name}.npz"
        kept = _read(path, made_of, shape)
        if kept is None:
            kept = self._counted(tissue, raster)
            self._keep(path, kept, made_of)
        return kept

    def _counted(self, tissue: str, raster: TileRaster) -> np.ndarray:
        """One pass over the masks, a shard at a time."""
        n_classes = len(self.store.classes)
        counts = np.zeros((len(raster.rows), len(raster.columns), n_classes + 1), np.int32)
        for window in self.store.windows(tissue):
            classes, instances = (
                self.store.read(tissue, array, window) for array in (CLASSES, INSTANCES)
            )
            _add(counts, raster, window, classes, instances)
        return counts.reshape(-1, n_classes + 1)

    def _keep(self, path: Path, counts: np.ndarray, made_of: str) -> None:
        """Write whole or not at all; of several runs that do so at once, any may be the last."""
        draft = path.with_name(f".{uuid4().hex}.draft")
        try:
            path.parent.mkdir(exist_ok=True)
            if not (mark := path.with_name("zarr.json")).exists():
                _put(mark, _GROUP.encode())  # else zarr warns of the folder when it lists the store
            with draft.open("xb") as file:
                np.savez(file, counts=counts, made_of=np.array(made_of))
            draft.replace(path)
        except OSError as error:
            self._refused = f"cannot be written to ({error.strerror or in_one_line(error)})"
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def _put(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{uuid4().hex}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def _listed(part: Sequence[int] | int) -> list[int]:
    return np.atleast_1d(part).tolist()


def _read(path: Path, made_of: str, shape: tuple[int, int]) -> np.ndarray | None:
    """What was kept, if it is whole and of the same masks and tiles."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if kept["made_of"].item() != made_of:
                return None
            counts = kept["counts"]
    except _NO_COUNTS:
        return None
    return counts if counts.shape == shape and counts.dtype == np.int32 else None


def _add(
    counts: np.ndarray,
    raster: TileRaster,
    window: Window,
    classes: np.ndarray,
    instances: np.ndarray,
) -> None:
    """Add the pixels of a window to the tiles that show them; (rows, columns, n_classes + 1).

    A row of tiles is counted column of pixels by column of pixels: differences of running sums are
    then the counts of any span of them, so tiles may overlap as they like.
    """
    n_classes = counts.shape[-1] - 1
    starts = np.asarray(raster.columns, np.int64) - window.x
    spans = np.clip([starts, starts + raster.tile_px], 0, window.width)
    for row, start in enumerate(raster.rows):
        top = max(start - window.y, 0)
        bottom = min(start + raster.tile_px - window.y, window.height)
        if top < bottom:
            before = _running(classes[top:bottom], instances[top:bottom], n_classes)
            counts[row] += before[spans[1]] - before[spans[0]]


def _running(classes: np.ndarray, instances: np.ndarray, n_classes: int) -> np.ndarray:
    """(width + 1, n_classes + 1) int32: pixels of each class, and of instances, left of a column."""
    width, kinds = classes.shape[1], n_classes + 1  # the last kind is none of the classes
    place = np.minimum(classes, n_classes) + np.arange(0, width * kinds, kinds)
    found = np.bincount(place.ravel(), minlength=width * kinds).reshape(width, kinds)
    found[:, -1] = np.count_nonzero(instances, axis=0)
    before = np.zeros((width + 1, kinds), np.int32)
    np.cumsum(found, axis=0, out=before[1:])
    return before
