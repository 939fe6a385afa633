"""A folder of stored features: which stores are in it, how large they are, and what is wrong with them.

Only what says that it is a store of features counts, or is called like one and says nothing any more:
tissue stores and the arrays of others may lie in the same folder.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from tissueseg.contracts import Modality
from tissueseg.errors import StoreNotFoundError, TissuesegError
from tissueseg.store.checks import is_plain_name
from tissueseg.store.embedding_writer import work_folder
from tissueseg.store.embeddings import ATTRIBUTE, SCHEMA, EmbeddingStore, State
from tissueseg.store.remote import is_remote
from tissueseg.store.tissues import TissueStore

SUFFIX = ".zarr"
_CALLED = re.compile(rf".+-({'|'.join(Modality)})-[0-9a-f]{{8}}{re.escape(SUFFIX)}")


class Fault(StrEnum):
    """Why stored features are of no use."""

    STALE = "stale"  # their images have changed, or the tissue store is gone
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"  # for this version or this user: others may think better of them


class Origin(NamedTuple):
    """The tissue store that features were made from."""

    path: str  # where it was then, or where it is now; empty: not known
    store: TissueStore | None  # None: gone, or it cannot be opened
    gone: bool


class StoredTissue(NamedTuple):
    """A tissue in a store of features."""

    name: str
    bytes: int
    fault: Fault | None


class StoreListing(NamedTuple):
    """A store of features as it lies in its folder."""

    path: Path
    store: EmbeddingStore | None  # None: it cannot be opened
    error: str  # why it cannot
    fault: Fault | None  # of the store as a whole
    origin: Origin
    tissues: tuple[StoredTissue, ...]
    bytes: int  # with all its tissues
    unfinished: Mapping[str, int]  # tissue -> bytes of attempts, by workers alive or dead

    @property
    def faulty(self) -> tuple[StoredTissue, ...]:
        """Tissues that are of no use."""
        return tuple(tissue for tissue in self.tissues if tissue.fault)


def folder_beside(store: Path) -> Path:
    """Where stores of features stand unless they are told where, given the tissue store."""
    return store.with_name(f"{store.stem}_embeddings")


def embedding_stores(folder: str) -> Iterator[EmbeddingStore | TissuesegError]:
    """All stores of features in a folder, and what is wrong with those that cannot be opened."""
    for path in [folder] if is_remote(folder) else store_paths(Path(folder)):
        try:
            yield EmbeddingStore(path)
        except TissuesegError as error:
            yield error


def store_paths(folder: Path) -> list[Path]:
    """What is called like a store in a local folder; or the folder, if it is called so itself."""
    if folder.name.endswith(SUFFIX):
        return [folder]
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name[0] != ".")


def stored_features(folder: Path, against: TissueStore | None = None) -> Iterator[StoreListing]:
    """Look at every store of features in a local folder.

    Args:
        folder: of stores, or one of them.
        against: tissues whose images count as those of now; None: of the tissue store that each store
            of features was made from, if it can be opened.
    """
    for path in store_paths(folder):
        try:
            store = EmbeddingStore(path)
        except TissuesegError as error:
            if fault := root_fault(path):
                nowhere, size = Origin("", None, False), measure(path).bytes
                unfinished = unfinished_bytes(path)
                yield StoreListing(path, None, str(error), fault, nowhere, (), size, unfinished)
            continue
        origin = _origin(path, store) if against is None else _named(against)
        yield StoreListing(
            path,
            store,
            "",
            Fault.STALE if origin.gone else None,
            origin,
            tuple(_tissues(path, store, origin.store)),
            measure(path).bytes,
            unfinished_bytes(path),
        )


def root_fault(path: Path) -> Fault | None:
    """What ails a store of features that cannot be opened; None: it is none, whatever it is called."""
    called = bool(_CALLED.fullmatch(path.name)) and path.is_dir()
    try:
        root = json.loads((path / "zarr.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return Fault.DAMAGED if called else None
    except OSError:
        return Fault.UNREADABLE if called else None
    attributes = root.get("attributes") if isinstance(root, dict) else None
    if not isinstance(attributes, dict) or ATTRIBUTE not in attributes:
        return None
    about = attributes[ATTRIBUTE]
    other = isinstance(about, dict) and about.get("schema", SCHEMA) != SCHEMA
    return Fault.UNREADABLE if other else Fault.DAMAGED


def tissue_fault(store: EmbeddingStore, tissue: str, source: TissueStore | None) -> Fault | None:
    """What ails a tissue's features.

    Args:
        store: of features.
        tissue: that has a folder in it.
        source: its images count; None: nobody knows them, and none are stale.
    """
    digests = None if source is None else _digests(store, tissue, source)
    try:
        state = store.state(tissue, digests or {})
        if state == State.MISSING:
            return Fault.DAMAGED
        shards = -(-store.tiles(tissue) // store.shard_tiles(tissue))
    except StoreNotFoundError as error:
        return Fault.UNREADABLE if isinstance(error.__cause__, OSError) else Fault.DAMAGED
    if measure(Path(store.path) / tissue / "c").files < shards:
        return Fault.DAMAGED
    return Fault.STALE if digests is not None and state == State.STALE else None


class Size(NamedTuple):
    """What a folder holds, links not followed."""

    bytes: int
    files: int


def measure(folder: Path) -> Size:
    """Sizes of all files below a folder; workers may be busy in it. A link to one holds nothing."""
    found = []
    for top, _, names in () if folder.is_symlink() else os.walk(folder):
        for name in names:
            try:
                found.append(os.lstat(os.path.join(top, name)).st_size)  # noqa: PTH118 - many files
            except FileNotFoundError:  # renamed or removed since
                continue
    return Size(sum(found), len(found))


def folders_in(folder: Path) -> list[str]:
    """Names of the folders and links to folders there; none where it is none or cannot be read."""
    _, names, _ = next(os.walk(folder), ("", [], []))
    return sorted(names)


def unfinished_bytes(store: Path) -> dict[str, int]:
    """Tissue -> bytes of attempts at it."""
    attempts = work_folder(store) / "tissues"
    if work_folder(store).is_symlink():
        return {}
    names = filter(is_plain_name, folders_in(attempts))
    return {name: measure(attempts / name).bytes for name in names}


def _tissues(
    path: Path, store: EmbeddingStore, source: TissueStore | None
) -> Iterator[StoredTissue]:
    """Of those that have a folder; a worker's rename is the only way in."""
    for name in folders_in(path):
        array = (path / name / "zarr.json").is_file() or (path / name / "c").is_dir()
        if array and is_plain_name(name):
            fault = tissue_fault(store, name, source)
            yield StoredTissue(name, measure(path / name).bytes, fault)


def _digests(store: EmbeddingStore, tissue: str, source: TissueStore) -> dict[str, str] | None:
    """Of the images a tissue has now; None: the store does not tell, or has no such tissue."""
    if tissue not in source:
        return None
    try:
        return source.image_digests(tissue, Modality(store.fields["modality"]))
    except (StoreNotFoundError, KeyError):
        return None


def _named(store: TissueStore) -> Origin:
    return Origin(store.address, store, gone=False)


def _origin(path: Path, store: EmbeddingStore) -> Origin:
    """Where it was made; or near the folder, if both were moved or copied together."""
    said = store.made.get("store") if isinstance(store.made, Mapping) else None
    if not isinstance(said, str) or not said:
        return Origin("", None, gone=False)
    made = Path(said)
    places = [made, path.parent.parent / made.name, path.parent / made.name]
    if path.parent.name == folder_beside(made).name:  # where `train` looks for the one beside it
        places[:2] = places[1::-1]
    for place in places:
        try:
            return Origin(str(place), TissueStore(place), gone=False)
        except (TissuesegError, OSError):
            continue
    return Origin(said, None, _is_gone(made))


def _is_gone(path: Path) -> bool:
    """Whether nothing is there; not so where nobody can tell."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
