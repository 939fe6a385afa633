"""Reading a tissue store: one Zarr with every tissue's images, masks and what is known of them.

Windows, never whole tissues, through handles opened once per process.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.storage import FsspecStore, StorePath

from tissueseg.contracts import Channel, Modality, TissueClass
from tissueseg.errors import (
    ConfigError,
    SpecMismatchError,
    StoreNotFoundError,
    TissueDataError,
    UnreachableError,
    in_one_line,
)
from tissueseg.store import layout
from tissueseg.store.checks import is_plain_name
from tissueseg.store.per_process import PerProcess
from tissueseg.store.planes import Window
from tissueseg.store.recent import Recent
from tissueseg.store.remote import AT_ONCE, connect, is_remote, place
from tissueseg.store.versions import version

_OPEN_HANDLES = 4096  # handles hold no pixels: a thousand tissues stay open
_KEPT_ATTRIBUTES = 1024  # of tissues; those of a panel of fifty take 75 kB
_NO_METADATA = (OSError, ValueError, KeyError, TypeError, AttributeError)
_NO_PIXELS = (OSError, ValueError, RuntimeError)
"""What zarr and its codecs raise where something is gone or damaged."""


class TissueEntry(NamedTuple):
    """What the store's index knows of a tissue."""

    name: str
    patient: str
    height: int
    width: int
    digest: str  # sha256 of images and labels
    split: str | None = None  # the split or fold its source puts it in
    labelled: bool = True  # False: no instance and no class of it is known


class ArrayType(NamedTuple):
    """What an array of a tissue holds, without its pixels."""

    shape: tuple[int, ...]
    dtype: np.dtype


class TissueStore:
    """Read access to a tissue store; safe to pickle and to use after a fork.

    Args:
        path: of the store; or an address such as `s3://…`, read through fsspec.

    Raises:
        StoreNotFoundError: the path is missing or holds no tissue store.
        UnreachableError: the address does not answer.
    """

    def __init__(self, path: str | Path) -> None:
        self.address: str = str(path).rstrip("/") if is_remote(path) else str(Path(path))
        self._opened = PerProcess(partial(_Opened, self.address))
        self._version = version(self.address)
        attributes = _root_attributes(self.address, self._opened().remote)
        try:
            self.mpp: float | None = attributes["mpp"]
            self.classes = tuple(TissueClass(**c) for c in attributes["classes"])
            self.panel = tuple(Channel(**c) for c in attributes["panel"])
            self.images: tuple[str, ...] = tuple(attributes["images"])
            self.moments: dict[str, dict[str, list[float]]] = attributes["moments"]
            self._entries = {e[0]: TissueEntry(*e) for e in attributes["tissues"]}
            damaged = not self._entries or not all(map(is_plain_name, self._entries))
        except (KeyError, TypeError, AttributeError, IndexError):
            damaged = True
        if damaged:
            raise StoreNotFoundError(
                f"{self.address} is damaged: its index says nothing of use. Prepare it again."
            )

    @property
    def path(self) -> Path:
        """Where it is on a disk.

        Raises:
            ConfigError: it is on a server.
        """
        if is_remote(self.address):
            raise ConfigError(
                f"{self.address} is remote, but this works with local stores only: copy the store to a "
                "disk."
            )
        return Path(self.address)

    @property
    def location(self) -> str:
        """Its address, or its path from the root: to find it again from any folder."""
        return self.address if is_remote(self.address) else str(self.path.resolve())

    @property
    def tissues(self) -> tuple[str, ...]:
        """Names of all tissues, sorted."""
        return tuple(sorted(self._entries))

    def __contains__(self, tissue: object) -> bool:
        """Whether it holds a tissue of this name."""
        return tissue in self._entries

    def entry(self, tissue: str) -> TissueEntry:
        """Index entry of one tissue."""
        return self._entries[tissue]

    def labelled(self, tissue: str) -> bool:
        """Whether anybody labelled it; else its instances read 0 and its classes IGNORE."""
        return self.entry(tissue).labelled

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Names of the tissues without labels."""
        return tuple(tissue for tissue in self.tissues if not self.labelled(tissue))

    def require(self, modality: Modality) -> None:
        """Refuse a modality whose images the store does not hold."""
        if missing := [kind for kind in modality.images if kind not in self.images]:
            raise SpecMismatchError(
                f"modality={modality.value} needs {missing}, but {self.address} holds only "
                f"{list(self.images)}. Choose modality={'_'.join(self.images)} or another store."
            )

    def digests(self, tissues: Sequence[str] | None = None) -> dict[str, str]:
        """Tissue -> digest of its pixels."""
        return {t: self.entry(t).digest for t in tissues or self.tissues}

    def check_arrays(self, tissues: Sequence[str], modality: Modality) -> None:
        """Refuse tissues whose arrays are gone, before a run is well under way."""
        arrays = (*modality.images, layout.INSTANCES, layout.CLASSES)
        wanted = [(tissue, array) for tissue in tissues for array in arrays]
        if is_remote(self.address):  # to ask is to open
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._open_array, *zip(*wanted, strict=True)))
            return
        for tissue, array in wanted:
            if not (self.path / tissue / array / "0" / "zarr.json").is_file():
                raise self._damaged(tissue, f"no {array}")

    def image_channels(self, modality: Modality) -> int:
        """Channels of a modality's stacked image."""
        return sum({"he": 3, "sp": len(self.panel)}[kind] for kind in modality.images)

    def attributes(self, tissue: str) -> dict[str, Any]:
        """Channel statistics, pixels per class and source hashes of one tissue; not to be changed.

        Raises:
            StoreNotFoundError: they are gone.
        """
        return self._opened().attributes.get(tissue, lambda: self._read_attributes(tissue))

    def class_pixels(self, tissues: Sequence[str]) -> np.ndarray:
        """Pixels of each class over some tissues, ignored ones left out; (n_classes,) int64."""
        counts = (np.asarray(self.attributes(t)["class_pixels"], np.int64) for t in tissues)
        return sum(counts, np.zeros(len(self.classes), np.int64))

    def windows(self, tissue: str) -> Iterator[Window]:
        """The windows a tissue was written by: each a shard of every array."""
        return layout.windows(self.entry(tissue)[2:4], self.shard_px(tissue))

    def shard_px(self, tissue: str) -> tuple[int, int]:
        """Height and width of a tissue's shards."""
        return layout.shard_px(len(self.panel), self.entry(tissue)[2:4])

    def image_digests(self, tissue: str, modality: Modality) -> dict[str, str]:
        """Image -> digest of its pixels, of the images a modality uses; SP is scaled by statistics too.

        A source may state these, so that pixels alone do not tell what a network sees.
        """
        known = self.attributes(tissue)
        digests = {kind: known["digests"][kind] for kind in modality.images}
        if "sp" in digests:
            stated = json.dumps(known["statistics"], sort_keys=True).encode()
            digests["sp_statistics"] = hashlib.sha256(stated).hexdigest()
        return digests

    def read(self, tissue: str, array: str, window: Window) -> np.ndarray:
        """Read a window that lies inside the tissue.

        Args:
            tissue: its name.
            array: `he`, `sp`, `labels/instances` or `labels/classes`.
            window: in pixels.

        Returns:
            (C, height, width) for images, (height, width) for labels.

        Raises:
            TissueDataError: the pixels are damaged.
        """
        y, x, height, width = window
        if version(self.address) != self._version:
            raise self._gone()
        handle = self._handle(tissue, array)
        try:
            found = np.asarray(handle[..., y : y + height, x : x + width])
            # Zarr takes a shard that is missing for one of zeros, as they are when nothing is in them.
            if not found.any() and self._is_gone(tissue, array):
                raise self._gone()
            return found
        except StoreNotFoundError:
            raise
        except UnreachableError:
            raise
        except _NO_PIXELS as error:
            raise TissueDataError(
                f"tissue {tissue}: {array} of {self.address} cannot be read ({in_one_line(error)}): "
                f"{_mend(error)}"
            ) from error

    def _is_gone(self, tissue: str, array: str) -> bool:
        """Whether an array that was opened is not there any more."""
        return not is_remote(self.address) and version(f"{self.address}/{tissue}/{array}/0") is None

    def _gone(self) -> StoreNotFoundError:
        return StoreNotFoundError(
            f"{self.address} was replaced or removed while it was being read: start again with what is "
            "there now."
        )

    def array_type(self, tissue: str, array: str) -> ArrayType:
        """Shape and type of an array, named as in `read`."""
        handle = self._handle(tissue, array)
        return ArrayType(handle.shape, handle.dtype)

    def _handle(self, tissue: str, array: str) -> zarr.Array:
        return self._opened().handles.get((tissue, array), lambda: self._open_array(tissue, array))

    def _open_array(self, tissue: str, array: str) -> zarr.Array:
        with self._reading(tissue, array) as remote:
            where = place(self.address, remote, f"{tissue}/{array}/0")
            return zarr.open_array(where, mode="r", zarr_format=3)

    def _read_attributes(self, tissue: str) -> dict[str, Any]:
        with self._reading(tissue, "attributes") as remote:
            if remote is None:  # in a tenth of zarr's time, as of thousands of tissues it adds up
                group = json.loads((self.path / tissue / "zarr.json").read_bytes())
                return group["attributes"][layout.ATTRIBUTE]
            where = place(self.address, remote, tissue)
            found: Any = zarr.open_group(where, mode="r", zarr_format=3).attrs[layout.ATTRIBUTE]
            return found

    @contextmanager
    def _reading(self, tissue: str, what: str) -> Iterator[FsspecStore | None]:
        """How to reach the store, while reading something of a tissue."""
        try:
            yield self._opened().remote
        except UnreachableError:
            raise
        except _NO_METADATA as error:
            raise self._damaged(tissue, f"no {what} that can be read") from error

    def _damaged(self, tissue: str, what: str) -> StoreNotFoundError:
        return StoreNotFoundError(
            f"{self.address} is damaged: tissue {tissue} has {what}. Prepare it again."
        )


class _Opened:
    """What a process has opened of a store."""

    def __init__(self, address: str) -> None:
        self.remote = connect(address)
        self.handles: Recent[tuple[str, str], zarr.Array] = Recent(_OPEN_HANDLES)
        self.attributes: Recent[str, dict[str, Any]] = Recent(_KEPT_ATTRIBUTES)


def _mend(error: Exception) -> str:
    """What to do where pixels cannot be read: a disk that fails says nothing of what lies on it."""
    if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
        return "see that its disk or server can be read again, and go on then."
    return "the store is damaged. Prepare it again."


def _root_attributes(address: str, remote: FsspecStore | None) -> dict[str, Any]:
    if not remote and not Path(address).exists():
        raise StoreNotFoundError(f"no tissue store at {address}: the path does not exist.")
    attributes = stored_attributes(place(address, remote))
    if "tissues" not in attributes:
        raise StoreNotFoundError(
            f"{address} is not a tissue store: make one with `python -m tissueseg.prepare`."
        )
    if attributes.get("schema") != layout.SCHEMA:
        raise StoreNotFoundError(
            f"{address} has schema {attributes.get('schema')}, this version reads {layout.SCHEMA}: "
            "prepare it again."
        )
    return attributes


def stored_attributes(path: Path | StorePath) -> dict[str, Any]:
    """What the root says of itself, empty for anything but a tissue store."""
    try:
        stamp: Any = zarr.open_group(path, mode="r", zarr_format=3).attrs.get(layout.ATTRIBUTE)
    except UnreachableError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # zarr.json of any form
        return {}
    return stamp if isinstance(stamp, dict) else {}
