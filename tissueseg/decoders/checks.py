"""What a SkipDecoder cannot be built from, said in one line before anything is."""

from collections.abc import Collection, Mapping
from typing import Any

from tissueseg.contracts import EncoderSpec, Features
from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.heads import coarse, head_channels, head_stride
from tissueseg.numbers import check_number, check_whole

SKIPS = {"all": (True, True), "image_only": (True, False), "none": (False, False)}
"""Choice of `skips` -> whether (the image, the encoder's levels 1 to 3) reach the decoder sideways."""

SHARES = ("trunk", "branches")
STRIDES_PX = (8, 16)
HEAD_OPTIONS = {"depth", "hidden", "dropout"}

BOUNDARY = "boundary"
MASK = coarse("foreground", 4)
"""The head that limits the keys of `refine`."""
GATE = coarse("foreground", 1)
"""The head that weighs the image's skip in `gate`."""


def check_heads(heads: Mapping[str, Mapping[str, Any]], share: str) -> None:
    """Refuse unknown heads and options, and a decoder without any head at its end."""
    if share not in SHARES:
        raise ConfigError(f"decoder.share={share!r}; choose from {', '.join(SHARES)}.")
    for name, options in heads.items():
        head_channels(name, n_classes=1)
        _check_head(f"decoder.heads.{name}", options)
    if all(head_stride(name) for name in heads):
        raise ConfigError(
            f"decoder.heads has {list(heads)}; name a head at the tile's size too, such as classes."
        )


def check_values(
    width: float, skips: str, dropout: float, project: int | None, weights: str | None
) -> None:
    """Refuse numbers and names that nothing can be built from."""
    if skips not in SKIPS:
        raise ConfigError(f"decoder.skips={skips!r}; choose from {', '.join(SKIPS)}.")
    check_number("decoder.width", width, above=0)
    check_number("decoder.dropout", dropout, 0, below=1)
    if project is not None:
        check_whole("decoder.project", project, 1)
    if weights is not None and not (isinstance(weights, str) and weights):
        raise ConfigError(
            f"decoder.weights={weights!r}, wanted a file, hf://owner/repository/file or null."
        )


def check_slots(slots: Mapping[str, object], heads: Collection[str], skips: str) -> None:
    """Refuse a slot that is filled with something else, or that would not run.

    Args:
        slots: name -> what builds its module; None: not filled.
        heads: of the decoder, which slots are guided by.
        skips: choice of skip paths.
    """
    for name, factory in slots.items():
        if factory is not None and not callable(factory):
            raise ConfigError(
                f"decoder.{name}={factory}, wanted a _target_ and its options, or null."
            )
    scales = [coarse(BOUNDARY, stride) for stride in (8, 4, 2, 1)]
    if slots["boundary_attention"] and (BOUNDARY not in heads or not set(scales) & set(heads)):
        _refuse("boundary_attention", f"{BOUNDARY} and at least one of {', '.join(scales)}", heads)
    for slot, head in (("gate", GATE), ("refine", MASK)):
        if slots[slot] and head not in heads:
            _refuse(slot, head, heads)
    if slots["gate"] and not SKIPS[skips][0]:
        raise ConfigError(
            f"decoder.gate weighs the image's skip, which decoder.skips={skips} leaves out: choose "
            "decoder.skips=all or image_only."
        )


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


def _check_head(key: str, options: object) -> None:
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"{key}={options}, wanted options of a head, {{}} for none; ~{key} drops it."
        )
    if unknown := sorted(set(options) - HEAD_OPTIONS):
        raise ConfigError(f"{key} has {unknown}; choose from {sorted(HEAD_OPTIONS)}.")
    check_whole(f"{key}.depth", options.get("depth", 0), 0)
    check_whole(f"{key}.hidden", options.get("hidden", 1), 1)
    check_number(f"{key}.dropout", options.get("dropout", 0.0), 0, below=1)


def _refuse(slot: str, wanted: str, heads: Collection[str]) -> None:
    raise ConfigError(
        f"decoder.{slot} is guided by {wanted}, but decoder.heads has only {sorted(heads)}: take the "
        "slot from configs/decoder/slots, which brings its heads."
    )
