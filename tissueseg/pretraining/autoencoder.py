"""What a masked autoencoder is: it hides part of a tile from an encoder and fills it in from the rest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from tissueseg.data.image_tiles import Hidden, ImageBatch
from tissueseg.encoders.base import Encoder
from tissueseg.errors import ConfigError


class Reconstruction(NamedTuple):
    """What was filled in, in the numbers that networks see."""

    predicted: Tensor  # (B, c, N, patch²) float32
    target: Tensor  # like predicted
    counts: Tensor  # (B, c, N) bool: patches that were hidden, of channels that are there


class Planes(NamedTuple):
    """A reconstruction as pictures, in the numbers that networks see."""

    image: Tensor  # (B, K, H, W) as it is: channels that were filled in, or red, green and blue
    seen: Tensor  # (B, K, H, W) bool: what the encoder saw of it
    filled: Tensor  # (B, K, H, W), what is seen as it is


class Guess(NamedTuple):
    """A marker's pixels as they were filled in with none of its own to be seen."""

    marker: int  # row of the table of marker vectors, or channel of H&E
    predicted: Tensor  # (P,) float32
    baseline: Tensor  # (P,) what one would say without a network
    target: Tensor  # (P,)


class MaskedAutoencoder(nn.Module, ABC):
    """An encoder that learns, with a light decoder.

    Args:
        encoder: frozen as it was built; it learns from here on.

    Raises:
        ConfigError: tiles that its patches do not fill.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        tile_px, patch_px = encoder.data.tile_px, encoder.spec.patch_px
        if tile_px % patch_px:  # where it encodes, tiles would be stretched
            raise ConfigError(
                f"data.tile_px={tile_px} is not a multiple of the {patch_px} px patch of "
                f"encoder={encoder.spec.name}, whose patches are hidden one by one: choose one."
            )
        self.encoder = encoder
        encoder.requires_grad_(True)

    @abstractmethod
    def hide(self, present: Tensor, generator: Generator) -> Hidden:
        """Draw what is hidden of a tile with these channels, (C,) bool."""

    @abstractmethod
    def forward(self, batch: ImageBatch) -> Reconstruction:
        """Fill in what is hidden."""

    @abstractmethod
    def planes(self, batch: ImageBatch, found: Reconstruction) -> Planes:
        """What a reconstruction looks like."""

    @abstractmethod
    def guesses(self, batch: ImageBatch) -> Iterator[Guess]:
        """Fill in what the final score asks for, in parts."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Encoder and decoder under the names of published checkpoints."""

    def adopt(self, tensors: dict[str, Tensor]) -> str:
        """Take the decoder, and what else a file has that the encoder leaves behind; a line on that."""
        own = {n: p for n, p in self.named_parameters() if not n.startswith("encoder.")}
        given = {n: self._of_file(n, tensors) for n in own}
        fits = {n: t for n, t in given.items() if t is not None and t.shape == own[n].shape}
        with torch.no_grad():
            for name, tensor in fits.items():
                own[name].copy_(tensor)
        if len(fits) == len(own):
            return "the decoder of the pre-training goes on from the file"
        return f"{len(own) - len(fits)} of the decoder's {len(own)} tensors begin at random"

    def _of_file(self, name: str, tensors: dict[str, Tensor]) -> Tensor | None:
        """A file's tensor for one of ours that is none of the encoder's."""
        return tensors.get(f"decoder.{name}")

    def loss(self, found: Reconstruction) -> Tensor:
        """Mean over tiles of the mean squared error of what was hidden of each."""
        error = (found.predicted.float() - found.target).square().mean(-1)  # (B, c, N)
        counts = found.counts.to(error.dtype)
        of_tile = (error * counts).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp(min=1)
        return of_tile.mean()


def patched(cells: Tensor) -> Tensor:
    """(..., N, side²) patches of a square, in rows, as planes (..., H, W)."""
    rows, side = math.isqrt(cells.shape[-2]), math.isqrt(cells.shape[-1])
    planes = cells.unflatten(-1, (side, side)).unflatten(-3, (rows, rows))
    return planes.transpose(-3, -2).reshape(*cells.shape[:-2], rows * side, rows * side)


def detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, in memory of their own: ready for a file."""
    return {n: t.detach().to("cpu", torch.float32).contiguous().clone() for n, t in tensors.items()}
