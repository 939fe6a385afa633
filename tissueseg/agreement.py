"""Whether encoder, modality, decoder, loss and tiles fit together, before anything is opened."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tissueseg.contracts import EncoderSpec, Modality
from tissueseg.errors import SpecMismatchError


def check_composition(
    encoder: EncoderSpec,
    modality: Modality,
    heads: Collection[str],
    loss_heads: Collection[str],
) -> None:
    """Check that encoder, modality, decoder and loss fit together, before anything is opened.

    Raises:
        SpecMismatchError: naming what it got, what it wanted and what to do.
    """
    if modality not in encoder.modalities:
        trained = [m.value for m in encoder.modalities]
        both = ", encoder=pair for one encoder each" if modality == Modality.HE_SP else ""
        raise SpecMismatchError(
            f"encoder={encoder.name} was trained on {trained}, but modality={modality.value}. "
            f"Choose modality={trained[0]}{both} or another encoder."
        )
    if not {"classes", "foreground"} & set(heads):
        raise SpecMismatchError(
            f"decoder.heads has only {sorted(heads)}, by none of which pixels are scored: add classes or "
            "foreground (decoder=baseline, instance or panoptic)."
        )
    if missing := sorted(set(loss_heads) - set(heads)):
        raise SpecMismatchError(
            f"loss has terms on {missing}, but decoder.heads has only {sorted(heads)}. "
            "Add the head to the decoder or remove the term from the loss (loss=none: no class terms)."
        )
    if untrained := sorted(set(heads) - set(loss_heads)):
        raise SpecMismatchError(
            f"decoder.heads {untrained} would never be trained: no loss term uses them. "
            "Add a term to the loss (loss=ce_dice_ft for classes) or remove the head."
        )


def check_tiles(encoder: EncoderSpec, tile_px: int, mpp: float | None) -> None:
    """Check that tiles and their halo hold whole tokens of an encoder, on images of `mpp` µm/px.

    Raises:
        SpecMismatchError: naming tile and patch, and tile sizes that would do.
    """
    spec = encoder.at(mpp)
    for part in spec.parts:
        check_tiles(replace(part, halo_px=spec.halo_px), tile_px, mpp)
    stride = spec.stride_px
    assert stride is not None
    if tile_px <= 0 or tile_px % stride:
        below = max(tile_px // stride, 1) * stride
        raise SpecMismatchError(
            f"data.tile_px={tile_px} is not a multiple of the {stride} px patch of "
            f"encoder={spec.name}. Choose {below} or {below + stride}."
        )
    if spec.halo_px % stride:
        raise SpecMismatchError(
            f"encoder.halo_px={spec.halo_px} is not a multiple of the {stride} px patch of "
            f"encoder={spec.name}. Choose {-(-spec.halo_px // stride) * stride}."
        )
    side = tile_px + 2 * spec.halo_px
    seen = spec.tokens(side, mpp) * spec.token_px(mpp)
    if abs(seen - side) > 0.1 * side:
        raise SpecMismatchError(
            f"data.tile_px={tile_px} with halo would be stretched from {side} to {seen:.0f} px to hold "
            f"whole patches of encoder={spec.name}: choose larger tiles."
        )
