"""What crosses the borders between layers: modalities, specs, batches and outputs.

Nothing here computes. Torch types appear in annotations only, so that layers without torch can speak
of the same things.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from tissueseg.errors import SpecMismatchError

if TYPE_CHECKING:
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "he_mean", tuple(self.he_mean))
        object.__setattr__(self, "he_std", tuple(self.he_std))


@dataclass(frozen=True)
class EncoderSpec:
    """Everything a store, a decoder or a checkpoint must know of an encoder, without its code."""

    name: str
    modalities: tuple[Modality, ...]  # those its weights were trained on
    channels: tuple[int, ...]  # feature width of each level, shallow to deep
    stride_px: int  # tile pixels per token
    mpp: float | None = None  # µm/px its weights were trained at; None: any
    random_init: bool = False  # True: no parameter came from a checkpoint
    normalisation: Normalisation = field(default_factory=Normalisation)

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        object.__setattr__(self, "channels", tuple(self.channels))
        if isinstance(self.normalisation, Mapping):
            object.__setattr__(self, "normalisation", Normalisation(**self.normalisation))
        if len(self.channels) != LEVELS:
            raise SpecMismatchError(
                f"encoder={self.name} declares {len(self.channels)} feature levels, wanted {LEVELS}: "
                "give four entries in spec.channels."
            )

    @property
    def label(self) -> str:
        """The name that stands in run names and tables; says so when the weights are random."""
        return f"{self.name}_random_init" if self.random_init else self.name

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for checkpoints and provenance."""
        return asdict(self) | {"modalities": [m.value for m in self.modalities]}


@dataclass(frozen=True)
class DataSpec:
    """What encoders, decoders and reports must know of the data a run uses."""

    modality: Modality
    image_channels: int  # channels of the tile image, H&E first
    classes: tuple[TissueClass, ...]
    panel: tuple[Channel, ...]  # empty without SP
    mpp: float
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


class Features(NamedTuple):
    """What an encoder returns."""

    levels: tuple[Tensor, ...]  # four grids (B, D, h, w), shallow to deep
    image: Tensor  # (B, C, H, W), the normalised tile of the chosen modality only


class Batch(NamedTuple):
    """What a dataset yields, collated."""

    image: Tensor  # (B, C, H, W) float32, normalised channels of the chosen modality only
    classes: Tensor  # (B, H, W) int64, IGNORE where nothing is counted
    labels: Tensor  # (B, H, W) int32 instances, 0 background
    targets: dict[str, Tensor]  # head name -> (B, c, H, W) float32; NaN: not known
    tissue: Tensor  # (B,) int64, index into the dataset's tissues
    origin: Tensor  # (B, 2) int64, row and column of the tile in its tissue

    @property
    def valid(self) -> Tensor:
        """(B, H, W) bool: pixels whose instance label is known, typed or not."""
        return (self.classes != IGNORE) | (self.labels > 0)


Outputs = dict[str, "Tensor"]
"""Head name -> logits (B, c, H, W) at tile size. Heads: classes, foreground, hv, boundary."""


def head_channels(head: str, n_classes: int) -> int:
    """Output channels of a head, by its name."""
    known = {"classes": n_classes, "foreground": 1, "hv": 2, "boundary": 1}
    if head not in known:
        raise SpecMismatchError(f"decoder.heads names {head!r}; choose from {', '.join(known)}.")
    return known[head]


def check_composition(
    encoder: EncoderSpec,
    modality: Modality,
    tile_px: int,
    heads: Collection[str],
    loss_heads: Collection[str],
) -> None:
    """Check that encoder, modality, tiles, decoder and loss fit together, before anything is opened.

    Raises:
        SpecMismatchError: naming what it got, what it wanted and what to do.
    """
    if modality not in encoder.modalities:
        trained = [m.value for m in encoder.modalities]
        raise SpecMismatchError(
            f"encoder={encoder.name} was trained on {trained}, but modality={modality.value}. "
            f"Choose modality={trained[0]} or another encoder."
        )
    if encoder.stride_px < 1:
        raise SpecMismatchError(f"encoder.spec.stride_px={encoder.stride_px}, wanted at least 1.")
    if tile_px <= 0 or tile_px % encoder.stride_px:
        below = max(tile_px // encoder.stride_px, 1) * encoder.stride_px
        raise SpecMismatchError(
            f"data.tile_px={tile_px} is not a multiple of the {encoder.stride_px} px patch of "
            f"encoder={encoder.name}. Choose {below} or {below + encoder.stride_px}."
        )
    if missing := sorted(set(loss_heads) - set(heads)):
        raise SpecMismatchError(
            f"loss has terms on {missing}, but decoder.heads has only {sorted(heads)}. "
            "Add the head to the decoder or remove the term from the loss."
        )
    if untrained := sorted(set(heads) - set(loss_heads)):
        raise SpecMismatchError(
            f"decoder.heads {untrained} would never be trained: no loss term uses them. "
            "Add a term to the loss or remove the head."
        )


def check_scale(encoder: EncoderSpec, mpp: float) -> None:
    """Refuse images at another scale than the encoder's weights were trained at.

    Raises:
        SpecMismatchError: naming both.
    """
    if encoder.mpp is not None and abs(encoder.mpp - mpp) > 0.01 * mpp:
        raise SpecMismatchError(
            f"encoder={encoder.name} was trained at {encoder.mpp:g} µm/px, but the store has {mpp:g}: "
            "prepare the images at the encoder's scale or choose another encoder."
        )
