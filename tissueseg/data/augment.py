"""How training alters tiles beyond their views: parts by name, each with a random stream of its own.

What a tile becomes is a function of one number, its draw, and of nothing else: of no thread, worker or
order, and of no other part, so that taking one away leaves what the others draw. Turns and mirror images
are not among the parts: they are views, which stored features have too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from tissueseg.data.sp_noise import RawNoise, ScaledNoise
from tissueseg.data.transforms import Recipe, Transforms
from tissueseg.errors import ConfigError
from tissueseg.numbers import check_number

GROUPS = ("geometry", "he", "sp")
"""In the order they are named; `sp` alters intensities first and what came of them later."""


class Augmentation:
    """The parts of a run's augmentation that its images can have.

    Args:
        images: `he`, `sp` or both.
        tile_px: side of a tile.
        halo_px: how far images reach beyond tiles.
        geometry: name -> recipe of what moves pixels; one draw for images, labels and classes.
        he: name -> recipe of what colours H&E, on uint8 RGB.
        sp: name -> part.
        margin: tissue beyond tile and halo on each side, for geometry to move in, as a share of
            `tile_px`; read only where there is geometry.

    Attributes:
        parts: names of those that apply, such as `he.jitter`.
        idle: names of those for images that the run does not have.
        moves: whether there is geometry.
        margin_px: pixels read beyond tile and halo on each side.

    Raises:
        ConfigError: a part of the wrong kind or with options it cannot have, or a margin out of 0 … 2.
    """

    def __init__(
        self,
        images: Collection[str],
        tile_px: int,
        halo_px: int = 0,
        geometry: Mapping[str, Recipe] | None = None,
        he: Mapping[str, Recipe] | None = None,
        sp: Mapping[str, Any] | None = None,
        margin: float = 0.0,
    ) -> None:
        check_number("augmentation.margin", margin, 0, 2, note="a share of the tile")
        self.margin_px = math.ceil(margin * tile_px) if geometry else 0
        side_px = tile_px + 2 * (halo_px + self.margin_px)
        self._geometry = Transforms("geometry", geometry or {}, side_px)
        self._he = Transforms("he", he or {} if "he" in images else {}, side_px)
        for name, part in (sp or {}).items():
            _check_sp(name, part)
        self._sp = dict(sp or {}) if "sp" in images else {}
        groups = {"geometry": geometry or {}, "he": he or {}, "sp": sp or {}}
        self.moves = bool(geometry)
        self.parts = tuple(
            f"{group}.{name}"
            for group in GROUPS
            for name in groups[group]
            if group == "geometry" or group in images
        )
        named = (f"{group}.{name}" for group in GROUPS for name in groups[group])
        self.idle = tuple(name for name in named if name not in self.parts)

    def __bool__(self) -> bool:
        return bool(self.parts)

    def try_out(self) -> None:
        """Run every part of the library's once; raises ConfigError where one will not do."""
        self._geometry.try_out()
        self._he.try_out()

    def he(self, rgb: np.ndarray, draw: int) -> np.ndarray:
        """Colour (3, H, W) uint8."""
        names = self._names("he")
        if not names:
            return rgb
        seeds = {name: _seed(draw, f"he.{name}") for name in names}
        altered = self._he.colour(np.ascontiguousarray(np.moveaxis(rgb, 0, -1)), seeds)
        return np.moveaxis(altered, -1, 0)

    def sp_raw(self, image: np.ndarray, clips: np.ndarray, draw: int) -> np.ndarray:
        """Alter (C, H, W) intensities, before (C,) clips, NaN for channels without signal."""
        for name, part in self._sp.items():
            if isinstance(part, RawNoise):
                image = part(image, clips, np.random.default_rng(_seed(draw, f"sp.{name}")))
        return image

    def sp_scaled(self, image: np.ndarray, present: np.ndarray, draw: int) -> np.ndarray:
        """Alter normalised (C, H, W) float32 in place; returns (C,) bool, those left of `present`."""
        for name, part in self._sp.items():
            if isinstance(part, ScaledNoise):
                present = part(image, present, np.random.default_rng(_seed(draw, f"sp.{name}")))
        return present

    def moved(
        self, image: np.ndarray, planes: np.ndarray, draw: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move (C, H, W) float32 and (n, H, W) int32 alike; what comes of them lacks the margin.

        Planes hold ids and are never interpolated; they are 0 where nothing was moved to.
        """
        seeds = {name: _seed(draw, f"geometry.{name}") for name in self._names("geometry")}
        return self._geometry.move(image, planes, seeds, self.margin_px)

    def _names(self, group: str) -> list[str]:
        mark = f"{group}."
        return [part.removeprefix(mark) for part in self.parts if part.startswith(mark)]


def _seed(draw: int, part: str) -> int:
    """64 bits for one part of one draw."""
    return int.from_bytes(blake2b(f"{draw} {part}".encode(), digest_size=8).digest(), "big")


def _check_sp(name: str, part: object) -> None:
    if not isinstance(part, RawNoise | ScaledNoise):
        kinds = "ShotNoise, ChannelDropout, Gain or Offset of tissueseg.data.sp_noise"
        raise ConfigError(f"augmentation.sp.{name}={part!r}, wanted {kinds}.")
