"""What every encoder is: frozen, in eval mode for ever, and true to its spec.

A frozen encoder whose dropout or batch statistics wake up when Lightning calls `.train()` gives other
features in training than in inference; here `.train()` has no effect and no parameter takes gradients.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from tissueseg.contracts import EncoderSpec, Features


class Encoder(nn.Module, ABC):
    """A frozen network that turns a normalised tile into four grids of features."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute four grids (B, D, h, w), shallow to deep, from (B, C, H, W)."""

    def forward(self, image: Tensor) -> Features:
        """Encode a batch of normalised tiles (B, C, H, W); no gradient flows through."""
        # no_grad, not inference_mode: autocast copies every weight anew under the latter.
        with torch.no_grad():
            return Features(self.encode(image), image)

    def freeze(self) -> Self:
        """Stop every gradient and every change of mode; the last line of a subclass's __init__."""
        self.requires_grad_(False)
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
            hashed.update(flat.view(torch.uint8).numpy().tobytes())
        return hashed.hexdigest()
