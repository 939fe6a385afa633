"""Whether images of one field lie on each other, pixel by pixel, and what to do where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tissueseg.errors import TissueDataError

_ASPECT = 0.02  # relative difference of the ratios of the sides that another resolution explains
_CROPPED = 0.01  # relative difference of the sides that no resolution explains
_CROPPED_PX = 4  # the same of small images


def check_sizes(where: str, sizes: Mapping[str, Sequence[int]]) -> None:
    """Refuse images of which one has another size than the first.

    Args:
        where: slide or tissue, for messages.
        sizes: what it is -> height and width, px.

    Raises:
        TissueDataError: one line with both sizes and what to do.
    """
    first, wanted = next(iter(sizes.items()))
    for what, size in sizes.items():
        if tuple(size) != tuple(wanted):
            raise TissueDataError(f"{where}: {compare_sizes(what, size, first, wanted)}")


def compare_sizes(what: str, size: Sequence[int], first: str, wanted: Sequence[int]) -> str:
    """What a message says of two images whose sizes differ: both sizes, and what probably happened."""
    shown, asked = (" × ".join(map(str, sides)) for sides in (size, wanted))
    said = f"{what} is {shown} px, but {first} is {asked} (height × width)"
    if len(size) != 2 or not all((*size, *wanted)):
        return f"{said}: save it again as one plane of the same size."
    if tuple(size) == tuple(wanted)[::-1]:
        return f"{said}: its sides are swapped, transpose it."
    if all(_nearly(one, other) for one, other in zip(size, wanted, strict=True)):
        return f"{said}: crop or pad them to one frame."
    if same_field(size, wanted):
        ratio = size[0] / wanted[0]
        larger = f"{ratio:.2f} : 1" if ratio > 1 else f"1 : {1 / ratio:.2f}"
        return f"{said}, {larger}: export both at one resolution."
    return f"{said}: they do not show the same field. Register them to one frame."


def same_field(size: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether one resolution turned into another explains that two sizes differ."""
    ratios = [one / max(1, other) for one, other in zip(size, wanted, strict=True)]
    return all(ratios) and abs(ratios[0] / ratios[1] - 1) <= _ASPECT


def _nearly(one: int, other: int) -> bool:
    return abs(one - other) <= max(_CROPPED_PX, _CROPPED * other)
