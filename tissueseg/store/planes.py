"""Tissues on their way into a store: pixels of one window at a time, and what is known of the whole.

A tissue may be an image in memory or a whole slide that never was: what writes it asks for windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Window(NamedTuple):
    """A rectangle of a tissue, in pixels."""

    y: int
    x: int
    height: int
    width: int


class Planes(NamedTuple):
    """The pixels of one window, each plane (…, height, width).

    A tissue without labels has neither instances nor classes, in any of its windows.
    """

    instances: np.ndarray | None = None  # integer, 0 background
    classes: np.ndarray | None = None  # integer class ids, IGNORE where unclear
    he: np.ndarray | None = None  # (3, H, W) uint8
    sp: np.ndarray | None = None  # (C, H, W) uint8, uint16 or float32 intensities, ≥ 0


class LazyTissue(Protocol):
    """A co-registered source region whose pixels are read by window."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        ...

    @property
    def images(self) -> tuple[str, ...]:
        """Which of `he` and `sp` it has."""
        ...

    @property
    def patient(self) -> str | None:
        """None: the tissue is its own patient."""
        ...

    @property
    def split(self) -> str | None:
        """The split or fold its source puts it in."""
        ...

    @property
    def clips(self) -> Mapping[str, Sequence[float]]:
        """Quantile -> upper clip of every SP channel, where the source states them."""
        ...

    @property
    def notices(self) -> Mapping[str, int]:
        """What was assumed or changed, and how often; complete after the last window."""
        ...

    def read(self, window: Window) -> Planes:
        """Pixels of a window that lies inside the tissue.

        Raises:
            TissueDataError: what cannot be read, in one line.
        """
        ...


class Tissue(NamedTuple):
    """A co-registered source region in memory; one without labels has neither of the masks."""

    instances: np.ndarray | None = None  # (H, W) integer, 0 background
    classes: np.ndarray | None = None  # (H, W) integer class ids, IGNORE where unclear
    he: np.ndarray | None = None  # (3, H, W) uint8
    sp: np.ndarray | None = None  # (C, H, W) uint8, uint16 or float32 intensities, ≥ 0
    patient: str | None = None
    split: str | None = None
    clips: Mapping[str, Sequence[float]] = MappingProxyType({})
    notices: Mapping[str, int] = _NOTHING

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        height, width = next(plane.shape[-2:] for plane in self[:4] if plane is not None)
        return height, width

    @property
    def images(self) -> tuple[str, ...]:
        """Which of `he` and `sp` it has."""
        return tuple(kind for kind in ("he", "sp") if getattr(self, kind) is not None)

    def read(self, window: Window) -> Planes:
        """Pixels of a window."""
        y, x, height, width = window
        part = (..., slice(y, y + height), slice(x, x + width))
        return Planes(*(None if plane is None else plane[part] for plane in self[:4]))


def whole(shape: tuple[int, int]) -> Window:
    """The window of a whole tissue."""
    return Window(0, 0, *shape)
