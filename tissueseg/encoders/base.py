"""What every encoder is: frozen, in eval mode for ever, at its own scale, and true to its spec.

A frozen encoder whose dropout or batch statistics wake up when Lightning calls `.train()` gives other
features in training than in inference; here `.train()` has no effect and no parameter takes gradients,
but for those that `finetune.tune` lets learn.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tissueseg.contracts import DataSpec, EncoderSpec, Features
from tissueseg.errors import ConfigError

ADAPTERS = ("lora_a", "lora_b")
"""Parameters that low-rank updates add to a layer."""


class Encoder(nn.Module, ABC):
    """A frozen network that turns a normalised tile into four grids of features.

    Args:
        spec: as configured; what the weights say of themselves is added by subclasses.
        data: what the images look like.
        chunk: tiles encoded at a time, which bounds memory; None: the whole batch.
    """

    tuned = ""
    """What of it learns, for the user; empty while it is frozen, as it is unless `tune` changes it."""

    def __init__(self, spec: EncoderSpec, data: DataSpec, chunk: int | None = None) -> None:
        super().__init__()
        if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
            raise ConfigError(f"encoder.chunk={chunk}, wanted a number of tiles or null.")
        self.data, self._chunk = data, chunk
        self.spec = spec.at(data.mpp)

    @abstractmethod
    def encode(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Compute four grids (B, D, h, w), shallow to deep, at the encoder's own scale.

        Args:
            image: (B, C, h · patch_px, w · patch_px).
            present: (B, C) bool, False for channels without signal; None: all have some.
        """

    def forward(self, image: Tensor, present: Tensor | None = None) -> Features:
        """Encode normalised tiles with their halo; what comes back has none.

        No gradient flows, unless something of it learns: then from there on.

        Args:
            image: (B, C, H + 2·halo_px, W + 2·halo_px).
            present: (B, C) bool, False for channels without signal; None: all have some.
        """
        # no_grad, not inference_mode: autocast copies every weight anew under the latter.
        with torch.set_grad_enabled(bool(self.tuned) and torch.is_grad_enabled()):
            stride, halo = self.stride_px, self.spec.halo_px
            grids = self.grids(image, present)
            return Features(tuple(_core(g, halo // stride) for g in grids), _core(image, halo))

    def grids(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Four grids with one token on every `stride_px` pixels, halo included; `chunk` tiles a time."""
        count = self._chunk or max(len(image), 1)
        parts = [
            self._grids(image[i : i + count], None if present is None else present[i : i + count])
            for i in range(0, len(image), count)
        ]
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.cat(level) for level in zip(*parts, strict=True))

    def _grids(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Resize to the encoder's scale, encode, and bring the tokens to the stride."""
        height, width = image.shape[-2:]
        own = (self.spec.input_px(height, self.data.mpp), self.spec.input_px(width, self.data.mpp))
        grids = self.encode(resized(image, own), present)
        size = (height // self.stride_px, width // self.stride_px)
        return tuple(resized(grid, size) for grid in grids)

    def describe(self) -> list[str]:
        """What its weights and its scale are, a line each."""
        spec = self.spec
        lines = [f"encoder {spec.label}: {self._published():,} parameters"]
        if found := spec.accounting:
            lines[0] += f", {found.loaded:,} loaded ({found.layout}), {found.missing:,} missing"
            lines += [f"ignored in the file: {reason}" for reason in found.reasons]
        if "he" in self.data.modality.images:
            scaled = spec.normalisation
            lines.append(f"H&E in 0 … 1: mean {list(scaled.he_mean)}, std {list(scaled.he_std)}")
        side = self.data.tile_px + 2 * spec.halo_px
        if (own := spec.input_px(side, self.data.mpp)) != side:
            scale = "" if spec.mpp is None else f", trained at {spec.mpp:g} µm/px"
            lines.append(f"scale: tiles of {side} px are seen as {own} px{scale}")
        covered = spec.token_px(self.data.mpp)
        if abs(covered - self.stride_px) > 0.01 * covered:
            lines.append(f"tokens of {covered:.1f} px are resampled to {self.stride_px} px")
        return [*lines, self.tuned] if self.tuned else lines

    def _published(self) -> int:
        """Number of its parameters, without what fine-tuning adds."""
        return sum(p.numel() for n, p in self.named_parameters() if not n.endswith(ADAPTERS))

    @property
    def stride_px(self) -> int:
        """Tile pixels per token of the grids."""
        assert self.spec.stride_px is not None  # settled when it was built
        return self.spec.stride_px

    def freeze(self) -> Self:
        """Stop every gradient and every change of mode; the last line of a subclass's __init__."""
        self.requires_grad_(False)
        self.spec = replace(self.spec, sha256=self.digest())
        return super().train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    def digest(self) -> str:
        """Sha256 over all weights, in the order of their names."""
        hashed = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            hashed.update(name.encode())
            flat = value.detach().cpu().reshape(-1)  # a scalar has no other view
            hashed.update(flat.view(torch.uint8).numpy().data)
        return hashed.hexdigest()


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, averaging where it shrinks; the very same tensor when there is nothing to do."""
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=True).to(image.dtype)


def _core(grid: Tensor, border: int) -> Tensor:
    """Without `border` rows and columns on each side."""
    height, width = grid.shape[-2:]
    return grid[..., border : height - border, border : width - border] if border else grid
