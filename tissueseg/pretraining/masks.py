"""Which tokens of a tile are hidden from an encoder that learns to fill them in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from tissueseg.errors import ConfigError


@dataclass(frozen=True)
class MarkerMask:
    """Hides tokens of SP channels: a share of each channel's, and all tokens of some channels.

    As VirTues was trained (Wenckstern et al. 2026): every channel of a tile draws its share anew, so
    that the encoder meets few and many tokens, and channels that are hidden as a whole can only be told
    from the others.

    Args:
        lowest: least share of a channel's tokens that is hidden.
        highest: greatest share.
        whole: chance of a channel to be hidden as a whole.

    Raises:
        ConfigError: no shares, or in the wrong order.
    """

    lowest: float = 0.6
    highest: float = 1.0
    whole: float = 0.2

    def __post_init__(self) -> None:
        if (
            not 0 <= self.lowest <= self.highest <= 1
            or not 0 <= self.whole <= 1
            or not self.highest
        ):
            raise ConfigError(
                f"mask got lowest={self.lowest}, highest={self.highest}, whole={self.whole}: wanted "
                "0 ≤ lowest ≤ highest ≤ 1, highest above 0, and 0 ≤ whole ≤ 1."
            )

    def draw(self, tiles: int, channels: int, cells: int, generator: Generator) -> Tensor:
        """(B, C, N) bool, True for hidden tokens; drawn on the CPU."""
        shares = torch.rand(tiles, channels, generator=generator)
        shares = self.lowest + (self.highest - self.lowest) * shares
        shares[torch.rand(tiles, channels, generator=generator) < self.whole] = 1.0
        return _hidden(torch.rand(tiles, channels, cells, generator=generator), shares)


@dataclass(frozen=True)
class PatchMask:
    """Hides the same share of patches in every tile (He et al. 2022, masked autoencoders).

    Args:
        share: of a tile's patches.

    Raises:
        ConfigError: nothing would be hidden, or everything.
    """

    share: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"mask.share={self.share}, wanted a number between 0 and 1.")

    def draw(self, tiles: int, cells: int, generator: Generator) -> Tensor:
        """(B, N) bool, True for hidden patches; as many in every tile, and one is seen at least."""
        hidden = min(round(self.share * cells), cells - 1)
        return _hidden(
            torch.rand(tiles, cells, generator=generator), torch.full((tiles,), hidden / cells)
        )


def _hidden(drawn: Tensor, shares: Tensor) -> Tensor:
    """The lowest of drawn (..., N) numbers, as many as (...) shares say."""
    counts = (shares * drawn.shape[-1]).round()
    return drawn.argsort(-1).argsort(-1) < counts[..., None]
