"""Where exports go: checked before the work, and complete or absent after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tissueseg.contracts import Modality
from tissueseg.errors import ConfigError, TissueDataError, TissuesegError
from tissueseg.store.hidden_folder import HiddenFolder
from tissueseg.store.notices import name_some
from tissueseg.store.tissues import TissueStore


def chosen(store: TissueStore, tissues: Sequence[str] | None) -> tuple[str, ...]:
    """The tissues to export, each known to the store and whole; None: all of them.

    Raises:
        ConfigError: a tissue the store does not hold, or none at all.
        StoreNotFoundError: arrays of a tissue are gone.
    """
    wanted = store.tissues if tissues is None else tuple(dict.fromkeys(tissues))
    unknown = [tissue for tissue in wanted if tissue not in store]
    if unknown or not wanted:
        raise ConfigError(
            f"tissues={list(wanted)}: {store.address} holds {name_some(store.tissues)}. Choose from "
            "these, or tissues=null for all."
        )
    store.check_arrays(wanted, Modality("_".join(store.images)))
    return wanted


def check_target(target: Path, overwrite: bool, ours: Callable[[Path], bool]) -> None:
    """Refuse a path that is taken; what `ours` does not know is never overwritten.

    Raises:
        TissueDataError: in one line.
    """
    if target.exists() and not overwrite:
        raise TissueDataError(f"{target} exists already: choose another folder or overwrite=true.")
    if target.exists() and not ours(target):
        raise TissueDataError(
            f"{target} was not made by this export, so it is not overwritten: choose another folder."
        )


@contextmanager
def complete(target: Path, overwrite: bool, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """A path to write to; what is there takes the name of the target when the block ends well.

    Raises:
        TissueDataError: the target is taken, or cannot be written.
    """
    check_target(target, overwrite, ours)
    place = HiddenFolder(target, own=True)
    try:
        place.make_parents()
        place.discard()
        yield place.folder
        place.publish()
    except OSError as error:
        if isinstance(error, TissuesegError):
            raise
        raise TissueDataError(
            f"cannot write {target}: {error}. Free space there, or choose another folder."
        ) from error
    finally:
        place.discard()
        place.remove_parents()
