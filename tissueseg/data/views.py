"""Views of a tile: turned, mirrored or altered copies that are encoded once and drawn from in training.

What an extra view alters is a function of its key alone: training repeats on the tile what the encoder
saw without storing pixels. Draws use raw bits, which numpy keeps from release to release, as it does not
its distributions (NEP 19): stored embeddings outlive a numpy.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from tissueseg.data.draws import drawn_bits
from tissueseg.errors import ConfigError
from tissueseg.instances.stains import HED
from tissueseg.numbers import is_number, is_whole

DIHEDRAL = (1, 4, 8)
MOST_EXTRA = 64

_WANTED = {
    "dihedral": "1, 4 (rotations) or 8 (mirrored ones too)",
    "extra": f"a whole number 0 … {MOST_EXTRA}",
    "he_jitter": "a number 0 … 0.5, 0 for none",
    "sp_dropout": "a number 0 ≤ p < 1, 0 for none",
    "seed": "a whole number 0 … 2³² - 1",
}


@dataclass(frozen=True)
class HedJitter:
    """A stain jitter as drawn: each stain's amount is scaled, then shifted (in optical density)."""

    scale: tuple[float, float, float]
    shift: tuple[float, float, float]

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Alter (3, H, W) uint8, pixel by pixel.

        Optical density is log10(256 / (RGB + 1)), so that black is finite and white has none. Stains
        are linear in it, so every new colour is a product of three powers, one of each old colour:
        tables of 256 numbers, multiplied in a fixed order.
        """
        power = np.linalg.inv(HED) @ np.diag(self.scale) @ HED  # density: old colour -> new colour
        brightness = 256 * 10 ** -(np.array(self.shift) @ HED)
        tables = (np.arange(1, 257) / 256) ** power[..., None]  # (old, new, 256)
        tables[0] *= brightness[:, None]
        altered = np.empty(rgb.shape, np.float32)
        for new, plane in enumerate(altered):
            parts = (tables[old, new].astype(np.float32)[rgb[old]] for old in range(3))
            plane[...] = math.prod(parts) - 1
        return np.rint(altered).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class View:
    """One copy of a tile: a dihedral element and, of an extra view, how its image is altered."""

    element: int  # quarter turns, counter-clockwise; 4 … 7 mirror left and right first
    jitter: HedJitter | None = None
    sp_dropout: float = 0.0
    key: tuple[int, ...] = ()  # of the draws that need the number of channels

    def turned(self, plane: np.ndarray) -> np.ndarray:
        """The (..., H, W) plane as this view shows it, contiguous; itself if nothing turns."""
        if self.element == 0:
            return plane
        mirrored = plane[..., ::-1] if self.element >= 4 else plane
        return np.ascontiguousarray(np.rot90(mirrored, self.element % 4, axes=(-2, -1)))

    def stained(self, rgb: np.ndarray) -> np.ndarray:
        """The (3, H, W) uint8 H&E image as this view shows it; itself if nothing is altered."""
        return rgb if self.jitter is None else self.jitter(rgb)

    def kept(self, present: np.ndarray) -> np.ndarray:
        """(C,) bool, SP channels this view shows: each of the present ones stays or not by itself.

        If all would go, the one nearest to staying stays.
        """
        if not self.sp_dropout or not present.any():
            return present
        drawn = np.where(present, _uniform(self.key, len(present)), -1.0)
        return (drawn >= self.sp_dropout) | (drawn == drawn.max())


@dataclass(frozen=True)
class Views:
    """Which copies of every tile are encoded.

    Attributes:
        dihedral: 1: the tile itself; 4: its four rotations; 8: then those of its mirror image.
        extra: stochastic copies beside them, 0 … 64.
        he_jitter: s of an extra view's stain jitter, 0 … 0.5: each stain × U(1 - s, 1 + s) + U(-s, s)
            (Tellez et al. 2018, doi:10.1109/TMI.2018.2820199; 0.05 is HED-light and 0.2 HED-strong in
            Tellez et al. 2019, doi:10.1016/j.media.2019.101544). Optical density is to base 10 here.
        sp_dropout: chance of each SP channel to be left out of an extra view, 0 ≤ p < 1.
        seed: of all that extra views draw.
    """

    dihedral: int = 1
    extra: int = 0
    he_jitter: float = 0.05
    sp_dropout: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        usable = {
            "dihedral": is_whole(self.dihedral) and self.dihedral in DIHEDRAL,
            "extra": is_whole(self.extra, 0, MOST_EXTRA),
            "he_jitter": is_number(self.he_jitter, 0, 0.5),
            "sp_dropout": is_number(self.sp_dropout, 0) and self.sp_dropout < 1,
            "seed": is_whole(self.seed, 0, 2**32 - 1),
        }
        for key, fits in usable.items():
            if not fits:
                got = getattr(self, key)
                raise ConfigError(f"views.{key}={got!r} cannot be used: choose {_WANTED[key]}.")
        for key in ("he_jitter", "sp_dropout"):  # 0 and 0.0 are written alike
            object.__setattr__(self, key, float(getattr(self, key)))

    def __len__(self) -> int:
        return self.dihedral + self.extra

    def view(self, index: int, tissue: str, origin: tuple[int, int]) -> View:
        """View `index` of the tile at `origin` (row, column): dihedral ones first, then extra ones."""
        self._check(index)
        if index < self.dihedral:
            return View(int(index))
        number, (y, x) = int(index) - self.dihedral, origin
        name = int.from_bytes(blake2b(tissue.encode(), digest_size=8).digest(), "big")
        key = (self.seed, name, int(y), int(x), number)
        turn, *stain = _uniform((*key, 0), 7).tolist()
        return View(int(turn * self.dihedral), self._jitter(stain), self.sp_dropout, (*key, 1))

    def drawn(self, seed: int, epoch: int, items: np.ndarray) -> np.ndarray:
        """(N,) int64: which view each of (N,) `items` gets in an epoch of a run with that seed.

        All are equally likely. An item's view depends on no other item, order, worker or thread.
        """
        bits = drawn_bits((seed, epoch), items)
        return ((bits >> np.uint64(32)) * np.uint64(len(self)) >> np.uint64(32)).astype(np.int64)

    def covers(self, other: Views) -> bool:
        """Whether all views of `other` are among these; then they have the same numbers.

        Dihedral ones are a prefix, and extra ones are covered by those of as many dihedral ones only.
        """
        if not other.extra:
            return self.dihedral >= other.dihedral
        return self._draws == other._draws and self.extra >= other.extra

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)

    @property
    def _draws(self) -> tuple[float, ...]:
        """What extra views depend on; they draw their turn from the dihedral ones."""
        return self.dihedral, self.he_jitter, self.sp_dropout, self.seed

    def _jitter(self, drawn: list[float]) -> HedJitter | None:
        if not self.he_jitter:
            return None
        a, b, c, *shift = ((2 * u - 1) * self.he_jitter for u in drawn)
        return HedJitter((1 + a, 1 + b, 1 + c), (shift[0], shift[1], shift[2]))

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"view {index} of {len(self)}")


def _uniform(key: tuple[int, ...], count: int) -> np.ndarray:
    """(count,) float64 in [0, 1), a pure function of the key; the first ones whatever the count."""
    raw = np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)
    return (raw >> np.uint64(11)) * 2.0**-53
