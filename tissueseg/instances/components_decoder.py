"""Instances from a foreground alone: its connected pieces, cut where they are waisted.

For networks that predict neither rims nor offsets, so that they too can be scored on instances.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tissueseg.errors import ConfigError
from tissueseg.instances.components import components, in_reading_order, without_small
from tissueseg.instances.foreground import foreground
from tissueseg.instances.maps import Maps
from tissueseg.instances.necks import cut_at_necks
from tissueseg.instances.scale import NUCLEUS_UM, Scale
from tissueseg.numbers import check_number, shown


@dataclass(frozen=True)
class ComponentsDecoder:
    """Connected components of the foreground, split at necks.

    Args:
        split: whether to cut pieces at their necks.
        neck: how wide a neck may at most be to be cut, as a share of the thinner part's width; between
            0 and 1.
        nucleus_um: how far nuclei reach across, roughly, µm; what is much smaller is dropped.

    Raises:
        ConfigError: a value beyond its limits.
    """

    split: bool = True
    neck: float = 0.85
    nucleus_um: float = NUCLEUS_UM

    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.split, bool):
            raise ConfigError(f"split={shown(self.split)}, wanted true or false.")
        check_number("neck", self.neck, above=0, below=1, note="a share of the width")
        Scale(1.0, self.nucleus_um)

    def reach_px(self, mpp: float) -> int:
        """A piece is a piece as a whole; clumps that reach further are cut at necks within this."""
        return Scale(mpp, self.nucleus_um).reach_px

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        """See `InstanceDecoder`."""
        scale, mask = Scale(mpp, self.nucleus_um), foreground(maps)
        pieces = cut_at_necks(mask, self.neck, scale.blur_px) if self.split else components(mask)
        return in_reading_order(without_small(pieces, scale.min_area_px))
