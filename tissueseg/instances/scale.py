"""Sizes in pixels that decoders of instances go by, from µm per pixel and the nuclei to be expected.

Published decoders carry constants for 0.25 and 0.5 µm/px. Here they are shares of a nucleus, so that
the same decoder serves any scale: what is a tenth of a nucleus at one is a tenth of it at another.
"""

import math
from dataclasses import dataclass

from tissueseg.numbers import check_number

NUCLEUS_UM = 7.0
"""How far typical nuclei reach across. Lymphocytes' are some 7 µm, those of epithelium and tumours 6 to
12, and sections cut through them off their middle; a factor of 2 either way changes little."""


@dataclass(frozen=True)
class Scale:
    """A nucleus in pixels, and what follows from it.

    Args:
        mpp: µm per pixel.
        nucleus_um: how far a typical nucleus reaches across, µm.

    Raises:
        ConfigError: µm/px not above 0, or nuclei of less than 0.1 or more than 200 µm.
    """

    mpp: float
    nucleus_um: float = NUCLEUS_UM

    def __post_init__(self) -> None:
        check_number("mpp", self.mpp, above=0, note="µm per pixel")
        check_number("nucleus_um", self.nucleus_um, 0.1, 200, note="µm")

    @property
    def nucleus_px(self) -> float:
        """Across a typical nucleus."""
        return self.nucleus_um / self.mpp

    @property
    def blur_px(self) -> float:
        """σ that smooths maps: 1/28 of a nucleus, 1 px at 0.25 µm/px; 0 where it would not matter.

        Noise of networks is finer than that, and the rims of nuclei are not blurred away.
        """
        sigma = self.nucleus_px / 28
        return sigma if sigma >= 0.4 else 0.0

    @property
    def average_px(self) -> int:
        """Side of the square that maps are averaged over: two and a half nuclei, an odd number."""
        return 2 * round(1.25 * self.nucleus_px) + 1

    @property
    def inwards_px(self) -> int:
        """How far inwards of a border maps are read: 1/14 of a nucleus, at least 1."""
        return max(1, round(self.nucleus_px / 14))

    @property
    def min_area_px(self) -> int:
        """A tenth of a typical nucleus's disc, π/4·d²: at 7 µm 3.8 µm², 62 px at 0.25 µm/px, 4 at 1.

        HoVer-Net drops what has fewer than 10 px at ×40, which is 0.6 µm², debris rather than nuclei.
        """
        return max(1, round(math.pi / 40 * self.nucleus_px**2))

    @property
    def min_marker_px(self) -> int:
        """1/16 of the least instance: where rims are predicted too thick, little is left of a nucleus."""
        return max(1, self.min_area_px // 16)

    @property
    def reach_px(self) -> int:
        """Three nuclei: that of the pixel, however large, its neighbour, and what maps are averaged over.

        Of 6 000 nuclei on maps of real tissues, three came out otherwise with a margin of two, none so.
        """
        return math.ceil(3 * self.nucleus_px) + 1
