"""Instances from a foreground with horizontal and vertical maps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tissueseg.instances.foreground import needed
from tissueseg.instances.hv import check_preset, decode_hv
from tissueseg.instances.hv_recipe import RECIPES
from tissueseg.instances.maps import Maps
from tissueseg.instances.scale import NUCLEUS_UM, Scale


@dataclass(frozen=True)
class HvDecoder:
    """`decode_hv` as a decoder of instances.

    Args:
        preset: `scaled`, `published_40x` or `published_20x`.
        nucleus_um: how far nuclei reach across, roughly, µm; for `scaled`.

    Raises:
        ConfigError: no such preset, or a size that is no number above 0.
    """

    preset: str = "scaled"
    nucleus_um: float = NUCLEUS_UM

    needs: ClassVar[tuple[str, ...]] = ("hv",)

    def __post_init__(self) -> None:
        check_preset(self.preset)
        Scale(1.0, self.nucleus_um)

    def reach_px(self, mpp: float) -> int:
        """Of `scaled` the true one; published presets stretch by the whole window, whatever its size."""
        reach_px = Scale(mpp, self.nucleus_um).reach_px
        return reach_px + RECIPES[self.preset].sobel_px if self.preset in RECIPES else reach_px

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        """See `InstanceDecoder`.

        Raises:
            SpecMismatchError: the window has no map `hv`, or of another size.
        """
        hv = needed(maps, "hv", "hv")
        return decode_hv(maps.foreground, hv, mpp, self.preset, self.nucleus_um)
