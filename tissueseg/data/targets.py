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
from tissueseg.heads import base_head
from tissueseg.instances.boundary import class_boundary, instance_boundary
from tissueseg.instances.hv import encode_hv

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


def foreground_target(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(1, H, W) float32: 1 in nuclei, typed or not, 0 elsewhere, NaN where it is not known."""
    inside = (labels > 0).astype(np.float32)
    inside[_unknown(labels, classes)] = np.nan
    return inside[None]


def hv_target(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(2, H, W) float32: offsets from nuclei's centres, 0 elsewhere, NaN where it is not known."""
    maps = encode_hv(labels)
    maps[:, _unknown(labels, classes)] = np.nan
    return maps


def _unknown(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Neither a nucleus nor background."""
    return (classes == IGNORE) & (labels == 0)


_OWN_TARGET = ("foreground", "hv", "boundary")


@dataclass(frozen=True)
class Targets:
    """Makes the targets of the heads a decoder has.

    Coarse heads learn from the target of their base head, at the tile's own size.
    """

    heads: tuple[str, ...]  # base heads, each once
    boundary: BoundaryTarget

    @classmethod
    def for_heads(cls, heads: Collection[str], boundary: BoundaryTarget) -> Targets:
        """Keep what heads learn from besides the class image itself."""
        needed = dict.fromkeys(base_head(head) for head in heads)
        return cls(tuple(head for head in needed if head in _OWN_TARGET), boundary)

    def __call__(self, labels: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
        """Base head -> (c, H, W) float32.

        Args:
            labels: (H, W) instances of a tile, turned and altered as its image was.
            classes: (H, W) class ids or IGNORE, likewise.
        """
        makers = {"foreground": foreground_target, "hv": hv_target, "boundary": self.boundary}
        return {head: makers[head](labels, classes) for head in self.heads}
