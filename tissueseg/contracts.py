"""What crosses the borders between layers: modalities, specs, batches and outputs.

Nothing here computes. Torch types appear in annotations only, so that layers without torch can speak
of the same things.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.numbers import check_number, is_number, is_whole

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

IGNORE = 255
"""Class id of pixels that no class loss and no metric counts: padding, unclear regions, untyped cells."""

LEVELS = 4
"""Feature grids an encoder returns, shallow to deep."""


class Modality(StrEnum):
    """Which images of a tissue an experiment uses."""

    HE = "he"
    SP = "sp"
    HE_SP = "he_sp"

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images in the store, in the order their channels are stacked."""
        return tuple(self.value.split("_"))


@dataclass(frozen=True)
class TissueClass:
    """One class of the class image; id 0 is always background."""

    id: int
    name: str
    color: str  # "#rrggbb"

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, 0 … 255 each."""
        red, green, blue = (int(self.color[i : i + 2], 16) for i in (1, 3, 5))
        return red, green, blue


@dataclass(frozen=True)
class Channel:
    """One SP channel of a panel."""

    name: str
    uniprot: str | None = None  # accession of the protein it shows
    nuclear: bool = False  # True for DNA stains and nuclear proteins that can outline nuclei


@dataclass(frozen=True)
class Normalisation:
    """How images are scaled before an encoder sees them; part of the encoder's identity."""

    he_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of RGB scaled to [0, 1]
    he_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    sp_quantile: float = 0.99  # upper clip, per tissue and channel
    sp_blur_sigma_px: float = 0.0  # Gaussian 3 × 3 at the encoder's own scale; 0: none

    def __post_init__(self) -> None:
        object.__setattr__(self, "he_mean", tuple(self.he_mean))
        object.__setattr__(self, "he_std", tuple(self.he_std))
        for key, values, least in (("he_mean", self.he_mean, 0.0), ("he_std", self.he_std, 1e-6)):
            if len(values) != 3 or not all(is_number(v, least, 1.0) for v in values):
                raise ConfigError(
                    f"normalisation.{key}={list(values)}, wanted three numbers for RGB scaled to 0 … 1."
                )
        check_number("normalisation.sp_quantile", self.sp_quantile, 0, 1)
        check_number(
            "normalisation.sp_blur_sigma_px",
            self.sp_blur_sigma_px,
            0,
            100,
            note="pixels, 0 for none",
        )


@dataclass(frozen=True)
class Accounting:
    """What became of every parameter of a checkpoint and of an encoder; none goes unsaid."""

    layout: str  # of the checkpoint's keys
    loaded: int  # parameters copied into the encoder
    missing: int  # parameters of the encoder that the checkpoint lacks: 0, or all of them at random
    ignored: int  # parameters of the checkpoint that the encoder has no use for
    reasons: tuple[str, ...] = ()  # "decoder.* (1 234): …", one for each group that was ignored

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasons", tuple(self.reasons))


@dataclass(frozen=True)
class EncoderSpec:
    """Everything a store, a decoder or a checkpoint must know of an encoder, without its code.

    The configuration states what is known before the weights are read; a built encoder's spec also has
    what they say of themselves (`channels`, `normalisation`, `accounting`, `sha256`).
    """

    name: str
    modalities: tuple[Modality, ...]  # those its weights were trained on
    channels: tuple[int, ...]  # feature width of each level, shallow to deep
    patch_px: int  # pixels of its own input per token
    mpp: float | None = None  # µm/px its weights were trained at; None: takes pixels as they are
    stride_px: int | None = None  # tile pixels per token of the grids it returns; see `at`
    halo_px: int = 0  # tile pixels of context on each side, seen but not returned
    random_init: bool = False  # True: no parameter came from a checkpoint
    normalisation: Normalisation = field(default_factory=Normalisation)
    accounting: Accounting | None = None
    sha256: str | None = None  # over all its weights
    parts: tuple[EncoderSpec, ...] = ()  # of an encoder made of others

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        object.__setattr__(self, "channels", tuple(self.channels))
        if not isinstance(self.normalisation, Normalisation | Mapping):
            raise ConfigError(f"encoder={self.name} has normalisation={self.normalisation}.")
        if isinstance(self.normalisation, Mapping):
            object.__setattr__(self, "normalisation", Normalisation(**self.normalisation))
        if isinstance(self.accounting, Mapping):
            object.__setattr__(self, "accounting", Accounting(**self.accounting))
        parts = (EncoderSpec(**p) if isinstance(p, Mapping) else p for p in self.parts)
        object.__setattr__(self, "parts", tuple(parts))
        if not self.modalities:
            raise SpecMismatchError(
                f"encoder={self.name} has no modalities: give them in spec.modalities."
            )
        if len(self.channels) != LEVELS:
            raise SpecMismatchError(
                f"encoder={self.name} declares {len(self.channels)} feature levels, wanted {LEVELS}: "
                "give four entries in spec.channels."
            )
        for key, lowest in (("patch_px", 1), ("stride_px", 1), ("halo_px", 0)):
            value = getattr(self, key)
            if not is_whole(value, lowest) and not (key == "stride_px" and value is None):
                raise SpecMismatchError(
                    f"encoder={self.name} has {key}={value}, wanted a whole number of at least {lowest}."
                )
        if self.mpp is not None and not (is_number(self.mpp) and self.mpp > 0):
            raise SpecMismatchError(
                f"encoder={self.name} has mpp={self.mpp}, wanted µm/px or null."
            )
        if self.mpp is None and self.stride_px is None and not self.parts:
            object.__setattr__(self, "stride_px", _power_of_two(self.patch_px))

    @property
    def label(self) -> str:
        """The name that stands in run names and tables; says so when the weights are random."""
        if self.parts:
            return "+".join(part.label for part in self.parts)
        return f"{self.name}_random_init" if self.random_init else self.name

    @property
    def scaled(self) -> bool:
        """Whether it must know the µm/px of what it is given."""
        return self.mpp is not None or any(part.scaled for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for checkpoints and provenance."""
        named = {"modalities": [m.value for m in self.modalities]}
        return asdict(self) | named | {"parts": [part.as_dict() for part in self.parts]}

    def token_px(self, mpp: float | None) -> float:
        """Tile pixels that one token covers, on images of `mpp` µm/px.

        Raises:
            SpecMismatchError: the encoder has a scale and the images have none.
        """
        if self.parts:
            return min(float(part.at(mpp).stride_px or 0) for part in self.parts)
        if self.mpp is None:
            return float(self.patch_px)
        if mpp is None:
            raise SpecMismatchError(
                f"encoder={self.name} was trained at {self.mpp:g} µm/px, but the store does not know its "
                "µm/px: prepare it with mpp, or state encoder.mpp=null to feed pixels as they are."
            )
        return self.patch_px * self.mpp / mpp

    def at(self, mpp: float | None) -> EncoderSpec:
        """Settle `stride_px` for images of `mpp` µm/px.

        The input is resized to the encoder's own scale, so a token covers `token_px` tile pixels. Grids
        are resampled to the nearest power of two, where decoders meet them, if that is another number.
        """
        covered = self.token_px(mpp)
        return self if self.stride_px else replace(self, stride_px=_power_of_two(covered))

    def input_px(self, side_px: int, mpp: float | None) -> int:
        """Side of the encoder's own input for `side_px` tile pixels: its scale, in whole patches."""
        return side_px if self.parts else self.tokens(side_px, mpp) * self.patch_px

    def tokens(self, side_px: int, mpp: float | None) -> int:
        """Tokens along a side of `side_px` tile pixels."""
        covered = self.token_px(mpp)
        if self.stride_px is not None and abs(covered - self.stride_px) <= 0.01 * covered:
            covered = self.stride_px  # a whole number but for rounding
        return max(1, round(side_px / covered))


def _power_of_two(pixels: float) -> int:
    return 2 ** max(0, round(math.log2(pixels)))


@dataclass(frozen=True)
class DataSpec:
    """What encoders, decoders and reports must know of the data a run uses."""

    modality: Modality
    image_channels: int  # channels of the tile image, H&E first
    classes: tuple[TissueClass, ...]
    panel: tuple[Channel, ...]  # empty without SP
    mpp: float | None
    tile_px: int

    def __post_init__(self) -> None:
        classes = (TissueClass(**c) if isinstance(c, Mapping) else c for c in self.classes)
        panel = (Channel(**c) if isinstance(c, Mapping) else c for c in self.panel)
        object.__setattr__(self, "modality", Modality(self.modality))
        object.__setattr__(self, "classes", tuple(classes))
        object.__setattr__(self, "panel", tuple(panel))

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for checkpoints and provenance."""
        return asdict(self) | {"modality": self.modality.value}


class Markers(NamedTuple):
    """Which channels of a panel an encoder sees, and the vectors that tell it what they show."""

    channels: tuple[int, ...]  # positions in the panel
    vectors: np.ndarray  # (len(channels), width) float32
    notes: tuple[str, ...] = ()  # for the user: channels left out, and names taken for others


MarkerLookup = Callable[[tuple[Channel, ...]], Markers]
"""From a panel to its markers; raises when a channel has none and nobody said to leave it out."""


class Features(NamedTuple):
    """What an encoder returns: the tile itself, without halo."""

    levels: tuple[Tensor, ...]  # four grids (B, D, h, w), shallow to deep
    image: Tensor  # (B, C, H, W), the normalised tile of the chosen modality only


class Batch(NamedTuple):
    """What a dataset yields, collated."""

    image: (
        Tensor  # (B, C, H + 2·halo, W + 2·halo) float32, normalised, of the chosen modality only;
    )
    # without halo where features come along
    present: Tensor  # (B, C) bool: False for a channel without signal in its tissue, which reads 0
    classes: Tensor  # (B, H, W) int64, IGNORE where nothing is counted
    labels: Tensor  # (B, H, W) int32 instances, 0 background
    targets: dict[str, Tensor]  # head name -> (B, c, H, W) float32; NaN: not known
    tissue: Tensor  # (B,) int64, index into the dataset's tissues
    origin: Tensor  # (B, 2) int64, row and column of the tile in its tissue
    view: Tensor  # (B,) int64, which copy of the tile this is; 0: the tile as it stands
    features: Tensor | None = None  # (B, level, h, w, D) of a store; None: encoded from the image

    @property
    def valid(self) -> Tensor:
        """(B, H, W) bool: pixels whose instance label is known, typed or not."""
        return (self.classes != IGNORE) | (self.labels > 0)


Outputs = dict[str, "Tensor"]
"""Head name -> logits (B, c, H, W). Heads: classes, foreground, hv, boundary, at the tile's size; and
coarse heads such as `boundary_stride4`, on every 4th pixel, which slots of a decoder are guided by."""
