"""Cells of a tissue as an OME-NGFF 0.5 label image, painted while they are found.

    labels.ome.zarr/instances/{0, 1, …}   uint32, ids of cells
    labels.ome.zarr/classes/{0, 1, …}     uint8, the type of the cell that a pixel belongs to

The root is an NGFF `labels` group, so that viewers find both by its path alone (`napari
labels.ome.zarr/instances`). Blocks are painted with margins that no chunk is aligned to, so every shard
is rewritten a few times: shards of 1024 px are painted as fast as loose chunks of 256 px, and as fast
as any larger ones, with a sixteenth of the files. Plain Zstandard at its lowest level packs ids smaller
than Blosc does, and as fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from tissueseg.contracts import TissueClass
from tissueseg.errors import StoreNotFoundError, StoreWriteError, TissueDataError
from tissueseg.store import layout
from tissueseg.store.tissues import stored_attributes
from tissueseg.tables.pyramid import every_second, fill_from, halved, level_count
from tissueseg.tables.targets import check_target

NAME = "labels.ome.zarr"
SHARD_PX = 1024
WINDOW_PX = 2048  # of what is held at a time while types are painted

_FORMAT = "labels"
_TYPES = {"instances": np.dtype(np.uint32), "classes": np.dtype(np.uint8)}


@dataclass(frozen=True)
class LabelLevels:
    """A finished label image; pixels are read when they are asked for."""

    instances: tuple[zarr.Array, ...]  # (H, W) uint32, then halved again and again
    classes: tuple[zarr.Array, ...]  # (H, W) uint8, likewise
    mpp: float | None


class LabelImage:
    """A label image that is being painted; `create` makes one.

    Args:
        path: of `labels.ome.zarr`.
        levels: name -> its arrays, full size first.
    """

    def __init__(self, path: Path, levels: dict[str, list[zarr.Array]]) -> None:
        self.path, self._levels = path, levels

    @classmethod
    def create(
        cls,
        folder: str | Path,
        shape: tuple[int, int],
        mpp: float | None,
        classes: Sequence[TissueClass],
    ) -> LabelImage:
        """Make `<folder>/labels.ome.zarr`, empty; what was left unfinished there is replaced.

        Args:
            folder: of the tissue, made if need be.
            shape: height and width, px.
            mpp: µm per pixel; None: not known.
            classes: the types cells may have, background first.

        Raises:
            TissueDataError: a finished one is there, or something else.
            StoreWriteError: the disk does not take it.
        """
        path = Path(folder) / NAME
        check_target(path, _is_unfinished(path), _is_label_image)
        with _writing(path):
            root = zarr.open_group(path, mode="w")
            root.attrs["ome"] = {"version": layout.NGFF_VERSION, "labels": list(_TYPES)}
            root.attrs[layout.ATTRIBUTE] = {"export": _FORMAT, "finished": False, "mpp": mpp}
            levels = {}
            for name, dtype in _TYPES.items():
                shown = classes if name == "classes" else ()
                metadata = layout.label_metadata(name, mpp, "", shown, level_count(shape))
                group = root.create_group(name)
                del metadata["ome"]["image-label"]["source"]  # NGFF has no word for no image
                group.attrs.update(metadata)
                levels[name] = _empty_levels(group, dtype, shape)
        return cls(path, levels)

    @property
    def canvas(self) -> zarr.Array:
        """(H, W) uint32 ids of cells, 0 where there is none; to be painted, one process at a time."""
        return self._levels["instances"][0]

    def finish(self, types_of_ids: np.ndarray) -> Path:
        """Paint the types of all cells and build the pyramids; memory holds one window.

        Args:
            types_of_ids: (highest id + 1,) class id of every cell by its id; 0 at 0.

        Returns:
            The path.

        Raises:
            StoreWriteError: the disk does not take it.
        """
        types = types_of_ids.astype(np.uint8)
        instances, classes = self._levels["instances"], self._levels["classes"]
        height, width = self.canvas.shape
        with _writing(self.path):
            for y, x, h, w in layout.windows((height, width), (WINDOW_PX, WINDOW_PX)):
                window = np.s_[y : y + h, x : x + w]
                classes[0][window] = types[np.asarray(self.canvas[window])]
            for arrays in (instances, classes):
                for finer, coarser in pairwise(arrays):
                    fill_from(finer, coarser, (SHARD_PX, SHARD_PX), every_second)
            root = zarr.open_group(self.path, mode="r+")
            root.attrs[layout.ATTRIBUTE] = stored_attributes(self.path) | {"finished": True}
        return self.path


def read_labels(folder: str | Path) -> LabelLevels:
    """Open the label image of a tissue's folder.

    Raises:
        StoreNotFoundError: there is none.
        TissueDataError: it was never finished.
    """
    path = Path(folder) / NAME
    if not _is_label_image(path):
        raise StoreNotFoundError(f"no label image at {path}: predict the tissue first.")
    if _is_unfinished(path):
        raise TissueDataError(f"{path} was left unfinished: predict the tissue again.")
    levels = {name: _opened(path / name) for name in _TYPES}
    return LabelLevels(levels["instances"], levels["classes"], stored_attributes(path)["mpp"])


def _opened(group: Path) -> tuple[zarr.Array, ...]:
    ome: Any = zarr.open_group(group, mode="r").attrs["ome"]
    paths = [dataset["path"] for dataset in ome["multiscales"][0]["datasets"]]
    return tuple(zarr.open_array(group / path, mode="r") for path in paths)


def _empty_levels(group: zarr.Group, dtype: np.dtype, shape: tuple[int, int]) -> list[zarr.Array]:
    levels: list[zarr.Array] = []
    for level in range(level_count(shape)):
        array = group.create_array(
            str(level),
            shape=shape,
            dtype=dtype,
            chunks=(layout.CHUNK_PX, layout.CHUNK_PX),
            shards=(SHARD_PX, SHARD_PX),
            compressors=ZstdCodec(level=1),
            dimension_names=("y", "x"),
        )
        levels.append(array)
        shape = halved(shape)
    return levels


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreWriteError(
            f"cannot write {path}: {error}. Free space, or choose another folder."
        ) from error


def _is_label_image(path: Path) -> bool:
    return stored_attributes(path).get("export") == _FORMAT


def _is_unfinished(path: Path) -> bool:
    return _is_label_image(path) and not stored_attributes(path).get("finished")
