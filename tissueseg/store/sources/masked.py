"""Tissues whose masks are in memory and whose images are read by window, and what such masks need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.notices import Notices
from tissueseg.store.planes import Planes, Window
from tissueseg.store.reading.claims import COARSEST_MPP

_SHOWN = 5

Reader = Callable[[Window], np.ndarray]
"""From a window to its (C, height, width) pixels."""


@dataclass(frozen=True)
class MaskedTissue:
    """A tissue with masks in memory; its images are asked for window by window."""

    instances: np.ndarray  # (H, W) integer, 0 background
    classes: np.ndarray  # (H, W) class ids, IGNORE where unclear
    he: Reader | None = None
    sp: Reader | None = None
    patient: str | None = None
    split: str | None = None
    clips: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notices: Mapping[str, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        height, width = self.instances.shape
        return height, width

    @property
    def images(self) -> tuple[str, ...]:
        """Which of `he` and `sp` it has."""
        return tuple(kind for kind in ("he", "sp") if getattr(self, kind) is not None)

    def read(self, window: Window) -> Planes:
        """Pixels of a window."""
        part = cut(window)
        he = None if self.he is None else self.he(window)
        sp = None if self.sp is None else self.sp(window)
        return Planes(self.instances[part], self.classes[part], he, sp)


def cut(window: Window) -> tuple[slice, slice]:
    """Rows and columns of a window."""
    y, x, height, width = window
    return slice(y, y + height), slice(x, x + width)


def storable(dtype: np.dtype, path: Path) -> np.dtype:
    """The type in which SP intensities of a type are stored: their own, or float32.

    Every window of an image has one type, so it follows from the file's alone, not from the values.
    """
    if dtype.kind not in "biuf":
        raise TissueDataError(f"{path} holds {dtype} values, wanted numbers.")
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    native = dtype.newbyteorder("=")
    return native if native in (np.uint8, np.uint16, np.float32) else np.dtype(np.float32)


def check_sizes(tissue: str, sizes: Mapping[str, tuple[int, int]], hint: str) -> None:
    """Refuse planes of one tissue that do not lie on each other.

    Args:
        tissue: its name.
        sizes: what it is -> height and width; the first is what the others are held against.
        hint: what to do.
    """
    first, wanted = next(iter(sizes.items()))
    for what, size in sizes.items():
        if tuple(size) != tuple(wanted):
            raise TissueDataError(
                f"tissue {tissue}: {what} is {size[0]} × {size[1]} px, but {first} is {wanted[0]} × "
                f"{wanted[1]} (height × width): {hint}"
            )


def settle_untyped(
    where: str, instances: np.ndarray, classes: np.ndarray, ignore: bool, notices: Notices
) -> np.ndarray:
    """Class image in which instances without class are ignored, if they were declared to be.

    Raises:
        TissueDataError: there are some, and nobody said to ignore them.
    """
    untyped = (instances > 0) & (classes == 0)
    if not untyped.any():
        return classes
    ids = np.unique(instances[untyped])
    if not ignore:
        raise TissueDataError(
            f"{where}: {ids.size} instances without class, such as {ids[:_SHOWN].tolist()}: give them a "
            "class, or set source.untyped=ignore to leave them out of what classes are scored on."
        )
    notices.count("{n} instances without class take class 255", int(ids.size))
    return np.where(untyped, np.uint8(IGNORE), classes)


def instance_ids(instances: np.ndarray) -> np.ndarray:
    """Ids that occur, without background; counted where they are dense, for sorting is slow."""
    highest = int(instances.max(initial=0))
    if instances.min(initial=0) >= 0 and highest <= 4 * instances.size:
        seen = np.zeros(highest + 1, bool)
        seen[instances.ravel()] = True
        found = np.flatnonzero(seen)
    else:
        found = np.unique(instances)
    return found[found != 0]


def require_folder(path: str | Path) -> Path:
    """The folder of a source."""
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(f"source.path={path} is not a folder.")
    return folder


def require_mpp(mpp: object, example: str) -> float:
    """A plausible scale, µm/px."""
    number = isinstance(mpp, int | float) and not isinstance(mpp, bool)
    if not number or not 0 < mpp <= COARSEST_MPP:  # pyright: ignore[reportOperatorIssue]
        raise ConfigError(
            f"source.mpp={mpp!r}, wanted µm per pixel (0 to {COARSEST_MPP:g}), such as {example}."
        )
    return float(mpp)  # pyright: ignore[reportArgumentType]


def require_choice(key: str, value: object, options: Sequence[str]) -> str:
    """An option that is one of some words."""
    if value not in options:
        raise ConfigError(f"source.{key}={value!r}: choose {' or '.join(options)}.")
    return str(value)
