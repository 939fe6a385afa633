"""Heads of decoders by their names: channels, coarseness, and the classes they are scored by."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tissueseg.contracts import TissueClass
from tissueseg.errors import SpecMismatchError

HEAD_CHANNELS = {"classes": None, "foreground": 1, "hv": 2, "boundary": 1}
"""Head -> channels of its logits; None: as many as there are classes."""

STRIDES = (1, 2, 4, 8)
"""Tile pixels per logit that a coarse head may have; 1: before the image joins the decoder."""

_COARSE = "_stride"


def coarse(head: str, stride: int) -> str:
    """Name of the head that predicts the same as `head` earlier in the decoder, every `stride` px."""
    return f"{head}{_COARSE}{stride}"


def base_head(head: str) -> str:
    """The head whose target a head learns: of `boundary_stride4` it is `boundary`."""
    return head.partition(_COARSE)[0]


def head_stride(head: str) -> int | None:
    """Tile pixels per logit of a coarse head; None for one at the decoder's end."""
    _, mark, stride = head.partition(_COARSE)
    return int(stride) if mark and stride.isdecimal() else None


def head_channels(head: str, n_classes: int) -> int:
    """Output channels of a head, by its name."""
    base, stride = base_head(head), head_stride(head)
    if base not in HEAD_CHANNELS or (base != head and stride not in STRIDES):
        raise SpecMismatchError(
            f"decoder.heads names {head!r}; choose from {', '.join(HEAD_CHANNELS)}, or one of them with "
            f"{_COARSE} and {', '.join(map(str, STRIDES))} behind it, such as boundary{_COARSE}4."
        )
    return HEAD_CHANNELS[base] or n_classes


NUCLEUS = TissueClass(1, "nucleus", "#e6550d")
"""What a decoder without class head tells from the background."""


def scored_classes(
    heads: Collection[str], classes: Sequence[TissueClass]
) -> tuple[TissueClass, ...]:
    """Between what a decoder's pixels are scored: classes, else background and nucleus.

    Args:
        heads: of the decoder.
        classes: of the store, background first.
    """
    return tuple(classes) if "classes" in heads else (classes[0], NUCLEUS)
