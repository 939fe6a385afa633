"""What a SkipDecoder cannot be built from, said in one line before anything is."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from tissueseg.contracts import EncoderSpec, Features, coarse, head_channels, head_stride
from tissueseg.errors import ConfigError, SpecMismatchError

SKIPS = {"all": (True, True), "image_only": (True, False), "none": (False, False)}
"""Choice of `skips` -> whether (the image, the encoder's levels 1 to 3) reach the decoder sideways."""

SHARES = ("trunk", "branches")
STRIDES_PX = (8, 16)
HEAD_OPTIONS = {"depth", "hidden", "dropout"}


def check_heads(heads: Mapping[str, Mapping[str, Any]], share: str) -> None:
    """Refuse unknown heads and options, and a decoder without any head at its end."""
    if share not in SHARES:
        raise ConfigError(f"decoder.share={share!r}; choose from {', '.join(SHARES)}.")
    for name, options in heads.items():
        head_channels(name, n_classes=1)
        if unknown := sorted(set(options) - HEAD_OPTIONS):
            raise ConfigError(
                f"decoder.heads.{name} has {unknown}; choose from {sorted(HEAD_OPTIONS)}."
            )
        if not _whole(options.get("depth", 0), 0):
            raise ConfigError(f"decoder.heads.{name}.depth={options['depth']}, wanted 0, 1, 2, …")
    if all(head_stride(name) for name in heads):
        raise ConfigError(
            f"decoder.heads has {list(heads)}; name a head at the tile's size too, such as classes."
        )


def check_values(width: float, skips: str, project: int | None, weights: str | None) -> None:
    """Refuse numbers and names that nothing can be built from."""
    if skips not in SKIPS:
        raise ConfigError(f"decoder.skips={skips!r}; choose from {', '.join(SKIPS)}.")
    if not 0 < width < math.inf:
        raise ConfigError(f"decoder.width={width}, wanted a number above 0.")
    if project is not None and not _whole(project, 1):
        raise ConfigError(f"decoder.project={project}, wanted a number of channels ≥ 1 or null.")
    if weights is not None and not (isinstance(weights, str) and weights):
        raise ConfigError(
            f"decoder.weights={weights!r}, wanted a file, hf://owner/repository/file or null."
        )


def check_slots(
    heads: Collection[str], image_skip: bool, boundary_attention: bool, gate: bool, refine: bool
) -> None:
    """Refuse a slot that would not run: without the heads, or the skip, that it needs."""
    if boundary_attention:
        scales = [coarse("boundary", s) for s in (8, 4, 2, 1)]
        if "boundary" not in heads or not set(scales) & set(heads):
            _refuse(
                "boundary_attention", f"boundary and at least one of {', '.join(scales)}", heads
            )
    if gate and coarse("foreground", 1) not in heads:
        _refuse("gate", coarse("foreground", 1), heads)
    if gate and not image_skip:
        raise ConfigError(
            "decoder.gate weighs the image's skip, which decoder.skips=none leaves out: choose "
            "decoder.skips=all or image_only."
        )
    if refine and coarse("foreground", 4) not in heads:
        _refuse("refine", coarse("foreground", 4), heads)


def checked_stride(spec: EncoderSpec) -> int:
    """Tile pixels per token."""
    if spec.stride_px is None or spec.stride_px not in STRIDES_PX:
        raise SpecMismatchError(
            f"encoder={spec.name} has a token every {spec.stride_px} px, but SkipDecoder climbs from "
            "8 or 16 px: set encoder.spec.stride_px to one of them, and grids are resampled to it."
        )
    return spec.stride_px


def check_grid(features: Features, stride_px: int) -> None:
    """Without the image skip nothing else would notice logits of the wrong size."""
    tile, grid = features.image.shape[-2:], features.levels[-1].shape[-2:]
    if tile[0] != grid[0] * stride_px or tile[1] != grid[1] * stride_px:
        raise SpecMismatchError(
            f"features are {grid[0]} × {grid[1]} tokens for a tile of {tile[0]} × {tile[1]} px, but "
            f"the decoder was built for one every {stride_px} px. Use the spec they were made with."
        )


def _refuse(slot: str, wanted: str, heads: Collection[str]) -> None:
    raise ConfigError(
        f"decoder.{slot} is guided by {wanted}, but decoder.heads has only {sorted(heads)}: take the "
        "slot from configs/decoder/slots, which brings its heads."
    )


def _whole(value: object, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest
