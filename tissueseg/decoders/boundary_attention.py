"""Slot that raises features where boundaries are predicted.

The study planned it and never built it: boundary heads at two or three scales, each supervised, and
features times G = 1 + α·σ(b). A gate that listens to an untrained head would amplify noise, so α
rises from 0 over the first part of training. It is a buffer: a checkpoint evaluates with the α its
weights were trained with, and a run that goes on begins where it stopped.
"""

import torch
from torch import Tensor, nn

from tissueseg.decoders.guides import resized
from tissueseg.numbers import check_number

_KEY = "decoder.boundary_attention"


class BoundaryAttention(nn.Module):
    """x · (1 + α·σ(b)), without trainable parameters.

    Gradient flows into the logits as well: the boundary head has a loss of its own, and learns besides
    where raised features help. While α is 0 that loss is all it learns from.

    Args:
        alpha: α after the warm-up, above 0; the study planned 0.5 to 2.
        warmup: share of training, 0 to 1, over which α rises to it from 0; 0: there at once.

    Attributes:
        alpha: float32 scalar, the α in force. 0, which changes nothing, until `set_progress` or loaded
            state says otherwise.

    Raises:
        ConfigError: values out of range.
    """

    alpha: Tensor

    def __init__(self, alpha: float = 1.0, warmup: float = 0.1) -> None:
        super().__init__()
        self.final = check_number(
            f"{_KEY}.alpha",
            alpha,
            above=0,
            note="the gate is 1 + α·σ(b), and 0 would raise nothing",
        )
        self.warmup = check_number(f"{_KEY}.warmup", warmup, 0, 1, note="a share of training")
        self.register_buffer("alpha", torch.zeros((), dtype=torch.float32))

    def set_progress(self, done: float) -> None:
        """Set α for this point of training; call it before a step, never between its two passes.

        Args:
            done: share of training that is done, 0 … 1; beyond 1 counts as 1.
        """
        share = min(1.0, done / self.warmup) if self.warmup else 1.0
        self.alpha.fill_(self.final * share)

    def forward(self, x: Tensor, boundary_logits: Tensor) -> Tensor:
        """Raise features.

        Args:
            x: (B, C, H, W) features.
            boundary_logits: (B, 1, h, w) of the same pass.

        Returns:
            (B, C, H, W), in x's dtype and memory format.
        """
        gate = 1 + self.alpha * resized(boundary_logits, x).sigmoid()
        return x * gate.to(x.dtype)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"alpha={self.final:g}, warmup={self.warmup:g}"
