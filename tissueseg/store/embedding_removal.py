"""Taking stores of features away, or what is of no use in them, while others work in the same folder.

What goes is claimed first, as `embed` claims a tissue, so that no living worker loses what it is at, and
then renamed: nobody reads half a store. A removal that was killed before it had deleted what it renamed
leaves a hidden folder, which the next one takes for useless.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from tissueseg.errors import ConfigError, StoreWriteError
from tissueseg.store.checks import is_plain_name
from tissueseg.store.claims import Claims
from tissueseg.store.embedding_folder import (
    SUFFIX,
    Fault,
    StoredTissue,
    StoreListing,
    folders_in,
    measure,
    tissue_fault,
)
from tissueseg.store.embedding_writer import work_folder
from tissueseg.store.embeddings import EmbeddingStore

_WORK = re.compile(rf"\.(?P<store>.+{re.escape(SUFFIX)})\.work")
_REMOVED = re.compile(rf"\.(?P<store>.+{re.escape(SUFFIX)})\.removed-[0-9a-f]{{32}}")
_USELESS = (Fault.STALE, Fault.DAMAGED)


class Removal(NamedTuple):
    """Something that may go."""

    what: str
    why: str
    bytes: int
    store: Path  # it belongs to
    claimed: Callable[[], set[str]]  # tissues that no worker may be at
    places: Callable[[], list[Path]]  # asked once they are claimed


def chosen(found: Sequence[StoreListing], names: Sequence[str]) -> list[Removal]:
    """Whole stores, by their names, or by what these or their fingerprints begin with.

    Raises:
        ConfigError: one of the names means no store, or several.
    """
    picked = {stored.path: stored for stored in (_meant(found, name) for name in names)}
    return [_whole(stored, "as asked for") for stored in picked.values()]


def useless(folder: Path, found: Sequence[StoreListing]) -> Iterator[Removal]:
    """Stores and tissues that are damaged or stale, attempts at tissues, and what removals left.

    Args:
        folder: of stores, or one of them.
        found: in it.
    """
    for stored in found:
        if stored.fault in _USELESS:
            gone = f"its tissue store {stored.origin.path} is gone"
            yield _whole(stored, gone if stored.fault == Fault.STALE else "damaged")
        elif stored.store is not None:
            yield from (_tissue(stored, t) for t in stored.faulty if t.fault in _USELESS)
            yield from (_attempts(stored.path, *attempt) for attempt in stored.unfinished.items())
    yield from _left_over(folder)


def take_away(removal: Removal, dry_run: bool = False) -> str:
    """Remove something, unless a living worker is at it.

    Args:
        removal: from `chosen` or `useless`.
        dry_run: look only; not for workers, who would leave out what is claimed meanwhile.

    Returns:
        Why it was kept; empty if it is gone.

    Raises:
        StoreWriteError: the disk refuses.
        TissueDataError: the disk takes no claims.
    """
    if removal.store.is_symlink() or work_folder(removal.store).is_symlink():
        return "it is a link to another folder: remove it there"
    if dry_run:
        return ""
    claims = Claims(work_folder(removal.store) / "claims") if removal.claimed() else None
    with claims or nullcontext():
        if claims and (tissue := _taken(claims, removal)):
            return f"a worker is at tissue {tissue}: let it finish, or stop it"
        aside = _set_aside(removal)
    for path in aside:
        _delete(path)
    return "" if aside else "it is gone, or was made anew since it was looked at"


def _meant(found: Sequence[StoreListing], name: str) -> StoreListing:
    fits = [s for s in found if s.path.name == name]
    if not fits and name:
        fits = [s for s in found if any(known.startswith(name) for known in _names(s))]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        there = ", ".join(s.path.name for s in found) or "none"
        raise ConfigError(f"prune={name} names no store of features: there are {there}.")
    several = ", ".join(s.path.name for s in fits)
    raise ConfigError(f"prune={name} means {len(fits)} stores ({several}): say more of the name.")


def _names(stored: StoreListing) -> tuple[str, ...]:
    return stored.path.name, *([stored.store.fingerprint] if stored.store else [])


def _whole(stored: StoreListing, why: str) -> Removal:
    """A store, and the folder that its workers use."""
    path, source = stored.path, stored.origin.store
    tissues = set(source.tissues) if source else set()
    size = stored.bytes + measure(work_folder(path)).bytes
    claimed = lambda: tissues | _tissues_of(path)  # noqa: E731
    return Removal(path.name, why, size, path, claimed, lambda: [path, work_folder(path)])


def _tissue(stored: StoreListing, tissue: StoredTissue) -> Removal:
    path, name, source = stored.path, tissue.name, stored.origin.store

    def places() -> list[Path]:
        """None if a worker has made it anew since it was looked at."""
        fault = tissue_fault(EmbeddingStore(path), name, source)
        return [path / name] if fault in _USELESS else []

    why = "made from other images" if tissue.fault == Fault.STALE else "damaged"
    return Removal(f"{path.name}/{name}", why, tissue.bytes, path, lambda: {name}, places)


def _attempts(path: Path, tissue: str, size: int) -> Removal:
    place = work_folder(path) / "tissues" / tissue
    what = f"attempts at {path.name}/{tissue}"
    return Removal(what, "left unfinished", size, path, lambda: {tissue}, lambda: [place])


def _left_over(folder: Path) -> Iterator[Removal]:
    """Work folders whose store is gone, and what removals had renamed when they were killed."""
    one = folder.name if folder.name.endswith(SUFFIX) else None
    parent = folder.parent if one else folder
    for name in folders_in(parent):
        place, size = parent / name, measure(parent / name).bytes
        if (match := _REMOVED.fullmatch(name)) and one in (None, match["store"]):
            store = parent / match["store"]
            yield Removal(name, "left by a removal", size, store, set, lambda p=place: [p])
        elif (match := _WORK.fullmatch(name)) and one in (None, match["store"]):
            store = parent / match["store"]
            if not os.path.lexists(store) and (place / "claims").is_dir():
                claimed = lambda s=store: _tissues_of(s)  # noqa: E731
                yield Removal(name, "its store is gone", size, store, claimed, lambda p=place: [p])


def _tissues_of(store: Path) -> set[str]:
    """Names that workers have claimed or finished."""
    work = work_folder(store)
    folders = (store, work / "claims", work / "tissues")
    return {name for folder in folders for name in folders_in(folder) if is_plain_name(name)}


def _taken(claims: Claims, removal: Removal) -> str:
    """Claim all tissues, those too that appear meanwhile; one that a worker is at, if any."""
    held: set[str] = set()
    while fresh := sorted(removal.claimed() - held):
        for name in fresh:
            if claims.take(name) is None:
                return name
        held.update(fresh)
    return ""


def _set_aside(removal: Removal) -> list[Path]:
    """Rename, so that it is gone at once for all who look."""
    aside = []
    for place in removal.places():
        name = f".{removal.store.name}.removed-{uuid4().hex}"
        if os.path.lexists(place):
            try:
                aside.append(place.rename(removal.store.with_name(name)))
            except OSError as error:
                raise StoreWriteError(
                    f"{place} cannot be removed ({error.strerror or error}): mend the permissions of "
                    "its folder, or ask its owner."
                ) from error
    return aside


def _delete(path: Path) -> None:
    if path.is_symlink():
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        raise StoreWriteError(
            f"{path} is out of use, but cannot be deleted altogether: mend its permissions and delete it."
        )
