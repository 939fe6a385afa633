"""Which planes a decoder's maps have, and in which order they travel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from tissueseg.instances.maps import Maps


@dataclass(frozen=True)
class MapLayout:
    """Planes of a decoder's heads, as probabilities; hv as it is.

    Where no head tells the foreground, it is what the class head does not take for background.
    """

    heads: tuple[str, ...]  # of `Maps`, in the order of their planes
    n_classes: int  # of the class head, background included

    @classmethod
    def of(cls, heads: Collection[str], n_classes: int) -> MapLayout:
        """Of a decoder with these heads, coarse ones left out."""
        return cls(tuple(name for name in Maps._fields if name in heads), n_classes)

    @property
    def slices(self) -> dict[str, slice]:
        """Head -> its planes."""
        widths = {"foreground": 1, "hv": 2, "boundary": 1, "classes": self.n_classes}
        found, first = {}, 0
        for head in self.heads:
            found[head] = slice(first, first + widths[head])
            first += widths[head]
        return found

    @property
    def planes(self) -> int:
        """Number of planes."""
        return max(place.stop for place in self.slices.values())

    def maps(self, planes: np.ndarray) -> Maps:
        """Take (planes, H, W) apart."""
        found = {head: planes[place] for head, place in self.slices.items()}
        if "foreground" not in found:
            found["foreground"] = 1 - found["classes"][:1]
        found["foreground"] = found["foreground"][0]
        if "boundary" in found:
            found["boundary"] = found["boundary"][0]
        return Maps(**found)
