"""What every decoder is to those who train it: maps features to named logits, and may be warmed up."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from tissueseg.contracts import Features, Outputs


class Decoder(nn.Module, ABC):
    """A network on top of an encoder's features.

    Attributes:
        head_names: of its outputs, in their order.
    """

    head_names: tuple[str, ...]

    @abstractmethod
    def forward(self, features: Features) -> Outputs:
        """Decode four grids (B, D, h, w) and an image (B, C, H, W) into logits by head name."""

    def set_progress(self, done: float) -> None:
        """Take note, before a training step, of the share of all steps that is done, 0 … 1."""

    def describe(self) -> list[str]:
        """Where its weights come from, a line each; none when it is to be trained from scratch."""
        return []
