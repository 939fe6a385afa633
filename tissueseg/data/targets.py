"""Dense targets that heads need besides the class image, derived from labels tile by tile.

They are made after every change of geometry, never stored: a flipped tile gets the targets of its
flipped labels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.instances.boundary import class_boundary, instance_boundary

EDGES_OF = ("instances", "classes")


@dataclass(frozen=True)
class BoundaryTarget:
    """Which edges the boundary head learns.

    Attributes:
        edges_of: `instances` separates touching nuclei of one class; `classes` is the study's target,
            the thick edge between different classes.
        width_px: thickness of instance edges, inside the nucleus.
    """

    edges_of: str = "instances"
    width_px: int = 1

    def __post_init__(self) -> None:
        if self.edges_of not in EDGES_OF or self.width_px < 1:
            raise ConfigError(
                f"boundary target edges_of={self.edges_of!r}, width_px={self.width_px}: choose edges_of "
                f"from {', '.join(EDGES_OF)} and a width of at least 1."
            )

    def __call__(self, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """(1, H, W) float32: 1 on edges, NaN where it is not known whether there is one."""
        if self.edges_of == "instances":
            return instance_boundary(labels, self.width_px)[None].astype(np.float32)
        edges = class_boundary(classes).astype(np.float32)
        edges[classes == IGNORE] = np.nan  # a cell without a type has no class edge to learn
        return edges[None]


@dataclass(frozen=True)
class Targets:
    """Makes the targets of the heads a decoder has."""

    heads: tuple[str, ...]
    boundary: BoundaryTarget

    @classmethod
    def for_heads(cls, heads: Collection[str], boundary: BoundaryTarget) -> Targets:
        """Keep those heads whose target is not the class image itself."""
        return cls(tuple(head for head in heads if head == "boundary"), boundary)

    def __call__(self, labels: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Head name -> (c, H, W) float32."""
        makers = {"boundary": self.boundary}
        return {head: makers[head](labels, classes) for head in self.heads}
