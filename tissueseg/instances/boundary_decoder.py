"""Instances from a foreground and the rims of nuclei.

Markers are what is left of the foreground without the rims; they grow back over them. Rims lie on the
nuclei's own pixels (`instance_boundary`), so each pixel of a rim is next to its own nucleus's marker.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tissueseg.instances.components import components, in_reading_order, without_small
from tissueseg.instances.foreground import foreground, needed
from tissueseg.instances.maps import Maps
from tissueseg.instances.necks import cut_at_necks
from tissueseg.instances.scale import NUCLEUS_UM, Scale
from tissueseg.instances.watershed import flood, levels_of
from tissueseg.numbers import check_number


@dataclass(frozen=True)
class BoundaryDecoder:
    """Foreground without rims, grown by watershed to the foreground.

    A piece of the foreground that is rim throughout, as small nuclei are, is an instance itself; one
    that touches larger nuclei is lost to them.

    Args:
        rim: probability from which on a pixel is no marker, between 0 and 1.
        gap: markers are parted where they are narrower than this share of their thinner part, between
            0 and 1: there a rim was predicted with a gap.
        nucleus_um: how far nuclei reach across, roughly, µm; what is much smaller is dropped.

    Raises:
        ConfigError: a value beyond its limits.
    """

    rim: float = 0.5
    gap: float = 0.5
    nucleus_um: float = NUCLEUS_UM

    needs: ClassVar[tuple[str, ...]] = ("boundary",)

    def __post_init__(self) -> None:
        check_number("rim", self.rim, above=0, below=1, note="a probability")
        check_number("gap", self.gap, above=0, below=1, note="a share of the width")
        Scale(1.0, self.nucleus_um)

    def reach_px(self, mpp: float) -> int:
        """As far as floods of neighbours may meet within nuclei."""
        return Scale(mpp, self.nucleus_um).reach_px

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        """See `InstanceDecoder`.

        Raises:
            SpecMismatchError: the window has no map `boundary`, or of another size.
        """
        scale = Scale(mpp, self.nucleus_um)
        rim = needed(maps, "boundary", "boundary")
        mask = foreground(maps, rim)
        inner = _parted(mask & (rim < self.rim), self.gap, scale.min_area_px)
        markers = without_small(inner, scale.min_marker_px)
        grown = flood(levels_of(np.where(mask, rim, 0), 0, 1), markers, mask)
        return in_reading_order(without_small(_with_unmarked(grown, mask), scale.min_area_px))


def _parted(inner: NDArray[np.bool_], gap: float, min_area_px: int) -> NDArray[np.int32]:
    """Pieces of a mask, parted where they are waisted: a rim that was predicted with a gap.

    What is too small for two nuclei stays whole, and may hang together by a corner: rims part nuclei
    diagonally too. What is cut off and less than half of the least nucleus is a corner, no nucleus.
    """
    pieces = components(inner, connectivity=8)
    large = np.bincount(pieces.reshape(-1)) >= 2 * min_area_px
    large[0] = False
    if not large.any():
        return pieces
    cut = without_small(cut_at_necks(large[pieces], gap), (min_area_px + 1) // 2)
    return np.where(large[pieces], np.where(cut > 0, cut + np.int32(len(large)), 0), pieces)


def _with_unmarked(grown: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """With the pieces of the mask that no marker lies in, an instance each."""
    unmarked = mask & (grown == 0)
    if not unmarked.any():
        return grown
    return np.where(unmarked, components(unmarked) + grown.max(), grown)
