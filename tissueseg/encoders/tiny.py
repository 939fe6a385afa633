"""A small ViT with seeded random weights: it makes everything run anywhere, and has learned nothing.

Its features are random projections of patches, mixed by random attention. Decoders on top of it learn
mostly from the image skip; its name says `random_init` wherever a result is shown.
"""

from __future__ import annotations

from torch import Tensor, nn

from tissueseg.contracts import LEVELS, DataSpec, EncoderSpec
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.layers import MLP, Attention, Block, seeded
from tissueseg.errors import ConfigError

_EPS = 1e-5


class TinyEncoder(Encoder):
    """Four pre-LN transformer blocks over patches of `spec.patch_px`, one level after each.

    Args:
        spec: all four channels equal, divisible by `heads`.
        data: what the images look like.
        heads: attention heads.
        seed: of the weights; the global random state is left as it was.

    Raises:
        ConfigError: channels that differ or that the heads do not divide.
    """

    def __init__(self, spec: EncoderSpec, data: DataSpec, heads: int = 4, seed: int = 0) -> None:
        super().__init__(spec, data)
        dim, patch = spec.channels[0], spec.patch_px
        if set(spec.channels) != {dim} or dim % heads:
            raise ConfigError(
                f"encoder={spec.name} got spec.channels={list(spec.channels)} with heads={heads}: give "
                "four equal channels, a multiple of the heads."
            )
        with seeded(seed):
            self.patch_embed = nn.Conv2d(data.image_channels, dim, patch, patch)
            self.blocks = nn.ModuleList(
                Block(dim, Attention(dim, heads), MLP(dim, 2 * dim), _EPS) for _ in range(LEVELS)
            )
        self.freeze()

    def encode(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Embed patches, then keep the tokens after every block."""
        grid = self.patch_embed(image)
        height, width = grid.shape[-2:]
        tokens = grid.flatten(2).transpose(1, 2)
        levels = []
        for block in self.blocks:
            tokens = block(tokens)
            levels.append(tokens.transpose(1, 2).unflatten(2, (height, width)).contiguous())
        return tuple(levels)
