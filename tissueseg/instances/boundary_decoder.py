"""Instances from a foreground and the rims of nuclei, however sure a network is of them.

A rim that a network predicts is closed around perfect nuclei alone: between touching ones it is weak and
has gaps, and thin nuclei are half rim within. So no one threshold parts nuclei. Depths are measured from
the rims at several, and from the background alone: where touching nuclei are waisted at most of them they
are cut, and neither a gap in a rim nor a speck of one within a nucleus decides alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from tissueseg.instances.components import components, in_one_piece, in_reading_order, without_small
from tissueseg.instances.foreground import foreground, needed
from tissueseg.instances.maps import Maps
from tissueseg.instances.necks import depth_of, joined_parts, peaks_of
from tissueseg.instances.scale import NUCLEUS_UM, Scale
from tissueseg.instances.watershed import flood, levels_of
from tissueseg.numbers import check_number

_THRESHOLDS = (0.25, 0.5, 0.75)  # rims that depths are measured from; quartiles, not fitted
_DEEP = 0.6  # of a nucleus: depths below are alike, lest those of clumps outweigh their nuclei's
_RIM_BLUR_PX = 0.5  # at most: rims are one pixel thick on either side at any scale


@dataclass(frozen=True)
class BoundaryDecoder:
    """Foreground cut at necks, which rims make narrower, and borders drawn along the rims.

    A piece of the foreground that is rim throughout, as small nuclei are, is an instance itself; one
    that touches larger nuclei is lost to them.

    Args:
        rim: probability from which on a pixel is on a border rather than within a nucleus, between 0
            and 1.
        neck: how wide a neck may at most be to be cut, as a share of the thinner part's width; between
            0 and 1. Mean over depths, so that a closed rim makes a neck of any border.
        nucleus_um: how far nuclei reach across, roughly, µm; what is much smaller is dropped.

    Raises:
        ConfigError: a value beyond its limits.
    """

    rim: float = 0.5
    neck: float = 0.75
    nucleus_um: float = NUCLEUS_UM

    needs: ClassVar[tuple[str, ...]] = ("boundary",)

    def __post_init__(self) -> None:
        check_number("rim", self.rim, above=0, below=1, note="a probability")
        check_number("neck", self.neck, above=0, below=1, note="a share of the width")
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
        if not mask.any():
            return np.zeros(mask.shape, np.int32)
        rim = np.where(np.isfinite(rim), rim, np.float32(0))
        depths = _depths(mask, rim, scale)
        parts = _parts(mask, depths, _DEEP * scale.nucleus_px)
        nuclei = joined_parts(parts, depths, self.neck, scale.min_area_px)
        redrawn = _along_rims(nuclei, rim, self.rim)
        whole = in_one_piece(redrawn)  # what floods part from a nucleus is too small to stay
        return in_reading_order(without_small(whole, scale.min_area_px))


def _depths(mask: NDArray[np.bool_], rim: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """(k, H, W): how deep pixels lie within rims of every threshold, then within the mask alone."""
    blur_px = scale.blur_px
    if blur_px:
        smooth = cv2.GaussianBlur(rim, (0, 0), min(blur_px, _RIM_BLUR_PX))
        rim = np.asarray(smooth, np.float32)
    within = [mask & (rim < threshold) for threshold in _THRESHOLDS]
    return np.stack([depth_of(one, blur_px) for one in (*within, mask)])


def _parts(
    mask: NDArray[np.bool_], depths: NDArray[np.float32], deep_px: float
) -> NDArray[np.int32]:
    """Flood from every peak of the mean depth that lies within rims; pieces without one are whole."""
    mean = np.minimum(depths, np.float32(deep_px)).mean(axis=0)
    peaks = mask & peaks_of(mean) & (depths[-2] > 0)
    parts = flood(levels_of(-mean, -deep_px, 0), components(peaks, 8), mask)
    return _with_unmarked(parts, mask)


def _along_rims(
    nuclei: NDArray[np.int32], rim: NDArray[np.float32], least: float
) -> NDArray[np.int32]:
    """Take the rims off nuclei and let them grow back: they meet where rims are highest.

    Those that are rim throughout stay as they are.
    """
    inner = np.where(rim < least, nuclei, 0)
    has_inner = np.bincount(inner.reshape(-1), minlength=int(nuclei.max()) + 1) > 0
    markers = np.where(has_inner[nuclei], inner, nuclei)
    return flood(levels_of(rim, 0, 1), markers, nuclei > 0)


def _with_unmarked(parts: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """With the pieces of the mask that no marker lies in, a part each."""
    unmarked = mask & (parts == 0)
    if not unmarked.any():
        return parts
    return np.where(unmarked, components(unmarked) + parts.max(), parts)
