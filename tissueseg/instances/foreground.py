"""The foreground that decoders cut up, and the maps that they cannot do without."""

import numpy as np
from numpy.typing import NDArray

from tissueseg.errors import SpecMismatchError
from tissueseg.instances.maps import Maps

THRESHOLD = 0.5


def needed(maps: Maps, field: str, decoder: str) -> NDArray[np.float32]:
    """A map that a decoder goes by.

    Raises:
        SpecMismatchError: no head predicts it, or it is not of the foreground's size.
    """
    found = getattr(maps, field)
    if found is None:
        others = " or ".join(f"instances={name}" for name in _others(maps, decoder))
        raise SpecMismatchError(
            f"instances={decoder} needs the map {field!r}, which no head of the network predicts: "
            f"choose {others}, or train a decoder with a head for it."
        )
    if found.shape[-2:] != maps.foreground.shape:
        raise SpecMismatchError(
            f"the maps {field} {found.shape} and foreground {maps.foreground.shape} differ in size, "
            "wanted one window: give all maps at the same scale."
        )
    return found


def foreground(maps: Maps, *also: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W): where the probability of nucleus is at least 0.5, and no map is NaN or infinite.

    Args:
        maps: of a window.
        also: other maps (H, W) that the decoder reads.
    """
    finite = np.logical_and.reduce([np.isfinite(one) for one in (maps.foreground, *also)])
    return finite & (maps.foreground >= THRESHOLD)


def _others(maps: Maps, decoder: str) -> list[str]:
    """Decoders by name in `configs/instances` that these maps are enough for."""
    fields = {"hv": maps.hv, "boundary": maps.boundary, "components": maps.foreground}
    return [name for name, given in fields.items() if given is not None and name != decoder]
