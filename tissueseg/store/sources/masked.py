"""Tissues whose masks are in memory and whose images are read by window, and what such masks need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tissueseg.errors import ConfigError
from tissueseg.store.planes import Planes, Window
from tissueseg.store.reading.claims import COARSEST_MPP

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
