"""Two frozen encoders side by side, one for H&E and one for SP: their levels, channel after channel.

The hybrid that the study named as future work. Each part sees its own images at its own scale; where
their tokens differ in size the coarser grids are resampled to the finer ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tissueseg.contracts import DataSpec, EncoderSpec, Modality, Normalisation
from tissueseg.encoders.base import Encoder, resized
from tissueseg.errors import SpecMismatchError

HE_CHANNELS = 3


def pair_spec(he: EncoderSpec, sp: EncoderSpec, halo_px: int = 0) -> EncoderSpec:
    """The spec of two encoders together.

    Raises:
        SpecMismatchError: one of them was not trained on what it would be given.
    """
    for part, modality, slot in ((he, Modality.HE, "he"), (sp, Modality.SP, "sp")):
        if modality not in part.modalities:
            trained = [m.value for m in part.modalities]
            raise SpecMismatchError(
                f"encoder.{slot}={part.name} was trained on {trained}, wanted {modality.value}: choose "
                f"another with encoder@encoder.{slot}=…"
            )
        if part.halo_px not in (0, halo_px):
            raise SpecMismatchError(
                f"encoder.{slot}.halo_px={part.halo_px}: a pair has one halo, give encoder.halo_px."
            )
    return EncoderSpec(
        name=f"{he.name}+{sp.name}",
        modalities=(Modality.HE_SP,),
        channels=tuple(a + b for a, b in zip(he.channels, sp.channels, strict=True)),
        patch_px=min(he.patch_px, sp.patch_px),
        halo_px=halo_px,
        random_init=he.random_init or sp.random_init,
        normalisation=Normalisation(
            he.normalisation.he_mean,
            he.normalisation.he_std,
            sp.normalisation.sp_quantile,
            sp.normalisation.sp_blur_sigma_px,
        ),
        parts=(he, sp),
    )


class PairEncoder(Encoder):
    """An H&E encoder and an SP encoder on the same tile.

    Args:
        spec: from `pair_spec`; its halo is the one that counts.
        data: both images.
        he: builds the H&E encoder, given `data`.
        sp: builds the SP encoder, given `data`.
        chunk: tiles encoded at a time; each part's own `chunk` holds within.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        data: DataSpec,
        he: Callable[..., Encoder],
        sp: Callable[..., Encoder],
        chunk: int | None = None,
    ) -> None:
        super().__init__(spec, data, chunk)
        he_data = replace(data, modality=Modality.HE, image_channels=HE_CHANNELS, panel=())
        sp_data = replace(
            data, modality=Modality.SP, image_channels=data.image_channels - HE_CHANNELS
        )
        # Parts keep what they see of the halo, which is cut off here; their specs must know of it.
        he_spec, sp_spec = (replace(part, halo_px=spec.halo_px) for part in spec.parts)
        self.he, self.sp = he(spec=he_spec, data=he_data), sp(spec=sp_spec, data=sp_data)
        self.spec = pair_spec(self.he.spec, self.sp.spec, spec.halo_px).at(data.mpp)
        self.freeze()

    def describe(self) -> list[str]:
        """Both parts, and which of them is resampled to the other's grid."""
        coarse = [p for p in (self.he, self.sp) if p.stride_px > self.stride_px]
        resampled = [
            f"tokens of {p.spec.name} ({p.stride_px} px) are resampled to {self.stride_px} px"
            for p in coarse
        ]
        return [*self.he.describe(), *self.sp.describe(), *resampled]

    def encode(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Both parts' levels on the finer of their grids, H&E first."""
        parts = (
            self.he.grids(image[:, :HE_CHANNELS], None),
            self.sp.grids(
                image[:, HE_CHANNELS:], None if present is None else present[:, HE_CHANNELS:]
            ),
        )
        size = max((levels[0].shape[-2], levels[0].shape[-1]) for levels in parts)
        return tuple(
            torch.cat([resized(grid, size) for grid in level], dim=1)
            for level in zip(*parts, strict=True)
        )
