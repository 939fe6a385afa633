"""A source of tissues in memory, and nuclei, for tests of what is wrapped around sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from stores import CLASSES, PANEL

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.planes import Planes, Tissue


@dataclass
class MemorySource:
    """Tissues and their scales by name; all have the images of the first."""

    made: dict[str, Tissue]
    scales: dict[str, float | None] = field(default_factory=dict)
    classes: tuple[TissueClass, ...] = CLASSES
    panel: tuple[Channel, ...] = PANEL
    notices: list[str] = field(default_factory=list)
    moments: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        return next(iter(self.made.values())).images

    @property
    def tissues(self) -> tuple[str, ...]:
        return tuple(self.made)

    def scale(self, tissue: str) -> float | None:
        return self.scales.get(tissue)

    def files(self, tissue: str) -> dict[str, Path]:
        return {}

    def open(self, tissue: str) -> Tissue:
        return self.made[tissue]


def assert_same(planes: Planes, other: Planes) -> None:
    """Every plane equal, to the last bit and in type."""
    for plane, wanted in zip(planes, other, strict=True):
        if plane is None or wanted is None:
            assert plane is wanted
        else:
            np.testing.assert_array_equal(plane, wanted, strict=True)


def ellipses(
    height: int, width: int, pitch: int, radii: tuple[float, float], seed: int = 0
) -> np.ndarray:
    """One nucleus in every square of `pitch` px, none near another; (height, width) int32."""
    rng = np.random.default_rng(seed)
    made = np.zeros((height, width), np.int32)
    for i, (y, x) in enumerate(np.ndindex(height // pitch, width // pitch), start=1):
        long, short = 2 * rng.uniform(*radii, 2)
        spare = (pitch - 4 - 2 * radii[1]) / 2
        centre = pitch * (np.array([x, y]) + 0.5) + rng.uniform(-spare, spare, 2)
        cv2.ellipse(made, (centre.tolist(), (long, short), rng.uniform(0, 180)), i, -1)
    return made
