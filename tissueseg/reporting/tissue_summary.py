"""What a predicted tissue's page says: plain values, so that it is rebuilt from a JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Histogram:
    """Cells by some measure."""

    edges: tuple[float, ...]  # of the bins, one more than there are counts
    counts: tuple[int, ...]
    beyond: int = 0  # cells past the last edge
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))
        object.__setattr__(self, "counts", tuple(self.counts))


@dataclass(frozen=True)
class TypeCount:
    """Cells of one type."""

    name: str
    color: str  # "#rrggbb"
    cells: int


@dataclass(frozen=True)
class CellCounts:
    """The cells of a tissue, counted."""

    types: tuple[TypeCount, ...]
    at_edge: int = 0  # that touch the edge of the tissue
    area: Histogram | None = None
    type_prob: Histogram | None = None  # None: no types were predicted

    def __post_init__(self) -> None:
        types = (TypeCount(**t) if isinstance(t, Mapping) else t for t in self.types)
        object.__setattr__(self, "types", tuple(types))
        for name in ("area", "type_prob"):
            if isinstance(stored := getattr(self, name), Mapping):
                object.__setattr__(self, name, Histogram(**stored))

    @property
    def total(self) -> int:
        """Cells of all types."""
        return sum(t.cells for t in self.types)


@dataclass(frozen=True)
class WrittenFile:
    """A file or folder of a tissue's results."""

    name: str
    bytes: int


@dataclass(frozen=True)
class TissueSummary:
    """A predicted tissue in plain values."""

    tissue: str
    height_px: int
    width_px: int
    mpp: float | None  # µm per pixel; None: not known
    cells: CellCounts
    about: dict[str, str] = field(default_factory=dict)  # run, encoder, decoder, date, …: as shown
    duplicates: int = 0  # cells that two blocks found, of which one was dropped
    random_weights: bool = False  # the encoder's: then the cells mean nothing
    notices: tuple[str, ...] = ()
    files: tuple[WrittenFile, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.cells, Mapping):
            object.__setattr__(self, "cells", CellCounts(**self.cells))
        files = (WrittenFile(**f) if isinstance(f, Mapping) else f for f in self.files)
        object.__setattr__(self, "files", tuple(files))
        object.__setattr__(self, "notices", tuple(self.notices))

    @property
    def area_mm2(self) -> float | None:
        """Of the whole image, glass and all; None where the scale is not known."""
        return self.mpp and self.height_px * self.width_px * self.mpp**2 / 1e6

    @property
    def per_mm2(self) -> float | None:
        """Cells per mm² of the whole image."""
        area = self.area_mm2
        return self.cells.total / area if area else None

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for `prediction.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TissueSummary:
        """The inverse of `as_dict`, also after JSON; keys it does not know are left out."""
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in stored.items() if key in known})


def list_files(folder: Path, left_out: Sequence[str] = ("index.html",)) -> tuple[WrittenFile, ...]:
    """What lies in a tissue's folder, hidden files left out; a folder with all that is below it."""
    shown = (p for p in folder.iterdir() if p.name not in left_out and p.name[0] != ".")
    return tuple(WrittenFile(p.name, _size(p)) for p in sorted(shown))


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
