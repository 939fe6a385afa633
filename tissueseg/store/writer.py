"""Writing a tissue store: whole tissues into a hidden folder beside it, which takes its name at the end.

The path holds a complete store or what it held before, whatever happens. What a killed writer had
finished is kept: the next one with the same recipe goes on from there, tissue by tissue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import zarr

from tissueseg.contracts import Channel, TissueClass
from tissueseg.errors import TissueDataError, TissuesegError
from tissueseg.store import layout
from tissueseg.store.checks import check_classes, check_tissue, is_plain_name
from tissueseg.store.ingest import StoreHeader, ingest
from tissueseg.store.planes import LazyTissue
from tissueseg.store.provenance import Stamps, record
from tissueseg.store.tissues import TissueEntry, stored_attributes
from tissueseg.store.workplace import Workplace

_NO_FILES: Mapping[str, Path] = MappingProxyType({})


class TissueWriter:
    """Writes a new store; it appears at its path only when the `with` block ends well.

    Args:
        path: where the store will stand; must not exist unless `overwrite`.
        mpp: µm per pixel of every tissue; None: not known.
        classes: ids 0 … n − 1, background first.
        panel: SP channels, in order; empty without SP.
        images: which images every tissue has.
        moments: of SP channels, where the source states them (see `Source.moments`).
        overwrite: replace a store that stands at the path, once the new one is complete.
        resume: go on from what an interrupted writer of the same recipe left, and leave as much: tissues
            that are added with stamps.
        recipe: whatever else decides what the tissues will be, in plain types.

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
        moments: Mapping[str, Mapping[str, Sequence[float]]] = MappingProxyType({}),
        overwrite: bool = False,
        resume: bool = False,
        recipe: Any = None,
    ) -> None:
        check_classes(classes)
        self.path = Path(path)
        if self.path.is_symlink():
            self.path = self.path.resolve()
        if not self.path.name:
            raise TissueDataError(f"{path} names no store: give a path such as cohort.zarr.")
        self.header = StoreHeader(
            mpp, tuple(classes), tuple(panel), tuple(images), _plain_moments(moments)
        )
        self.overwrite = overwrite
        self._recipe = _digest([layout.SCHEMA, asdict(self.header), recipe])
        self._workplace = Workplace(self.path, keep=resume)
        self._entries: dict[str, TissueEntry] = {}
        self._records: dict[Path, dict[str, Any]] = {}
        self._check_target()

    def add(
        self,
        name: str,
        tissue: LazyTissue,
        files: Mapping[str, Path] = _NO_FILES,
        stamps: Stamps | None = None,
    ) -> None:
        """Check one tissue and write it.

        Args:
            name: of the tissue, a plain file name.
            tissue: its pixels.
            files: what it comes from, recorded with size and sha256.
            stamps: of these files before they were read.
        """
        self._check_name(name)
        check_tissue(name, tissue, self.header.images)
        try:
            group = zarr.open_group(self._workplace.folder / name, mode="w")
            attributes = ingest(group, name, tissue, self.header)
            attributes["source"] = {file: self._record(path) for file, path in files.items()}
            group.attrs[layout.ATTRIBUTE] = attributes
            entry = self._entry(name, tissue, attributes["digests"])
            if stamps:
                stamps.check(name)
                self._workplace.finish(name, {"stamp": stamps.of(name), "entry": _listed(entry)})
            self._entries[name] = entry
        except OSError as error:
            if isinstance(error, TissuesegError):
                raise
            raise TissueDataError(f"cannot write tissue {name} to {self.path}: {error}.") from error

    def kept(self, name: str, stamps: Stamps) -> bool:
        """Whether an interrupted writer finished this tissue from the same files; then it is in."""
        note = self._workplace.finished.get(name)
        if note is None or note["stamp"] != stamps.of(name):
            return False
        self._check_name(name)
        self._entries[name] = TissueEntry(*note["entry"])
        return True

    def _check_name(self, name: str) -> None:
        if name in self._entries or not is_plain_name(name):
            raise TissueDataError(
                f"tissue name {name!r} is taken or not a plain file name: rename it."
            )

    def _record(self, path: Path) -> dict[str, Any]:
        if path not in self._records:
            self._records[path] = record(path)
        return self._records[path]

    def _entry(self, name: str, tissue: LazyTissue, digests: dict[str, str]) -> TissueEntry:
        height, width = tissue.shape
        labelled = "instances" in digests
        return TissueEntry(
            name, tissue.patient or name, height, width, _digest(digests), tissue.split, labelled
        )

    def _check_target(self) -> None:
        if self.path.exists() and not self.overwrite:
            raise TissueDataError(
                f"{self.path} exists already: choose another path or overwrite=true."
            )
        if self.path.exists() and "tissues" not in stored_attributes(self.path):
            raise TissueDataError(
                f"{self.path} is not a tissue store, so it is not overwritten: choose another path."
            )

    def __enter__(self) -> TissueWriter:
        try:
            self._workplace.open(self._recipe)
            self._check_target()  # opening may have brought a store back
        except OSError as error:
            if isinstance(error, TissuesegError):
                raise
            raise TissueDataError(f"cannot write a store at {self.path}: {error}.") from error
        except TissuesegError:
            self._workplace.close()
            raise
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
        except TissuesegError as failure:
            error = failure
            raise
        except OSError as failure:
            error = TissueDataError(f"cannot write {self.path}: {failure}.")
            raise error from failure
        finally:
            left = self._workplace.close()
            if left and error is not None:
                noun = "tissue is" if left == 1 else "tissues are"
                error.add_note(
                    f"{left} {noun} finished already and kept in {self._workplace.folder}: run the "
                    "same command again to go on, or delete that folder."
                )

    def _finish(self) -> None:
        if not self._entries:
            raise TissueDataError(f"no tissue to write to {self.path}: the source is empty.")
        self._check_target()
        root = self._workplace.settle(self._entries)
        root.attrs[layout.ATTRIBUTE] = {
            "schema": layout.SCHEMA,
            "mpp": self.header.mpp,
            "classes": [asdict(c) for c in self.header.classes],
            "panel": [asdict(c) for c in self.header.panel],
            "images": list(self.header.images),
            "moments": self.header.moments,
            "tissues": [_listed(entry) for entry in self._entries.values()],
        }
        self._workplace.publish()


def _listed(entry: TissueEntry) -> list[Any]:
    """As it stands in the index: of tissues with labels nothing is said that earlier stores did not."""
    return list(entry[:-1] if entry.labelled else entry)


def _plain_moments(
    moments: Mapping[str, Mapping[str, Sequence[float]]],
) -> dict[str, dict[str, list[float]]]:
    """Types that JSON and copying know."""
    return {
        quantile: {name: [float(v) for v in values] for name, values in pair.items()}
        for quantile, pair in moments.items()
    }


def _digest(value: Any) -> str:
    """sha256 of plain types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
