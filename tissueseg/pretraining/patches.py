"""A masked autoencoder for H&E (He et al. 2022): a ViT sees a quarter of the patches.

Hidden patches take no part in the encoder. A light decoder sees what came of the others and mask tokens
at the places of the hidden ones, and gives pixels, each patch relative to its own mean and spread.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from tissueseg.data.image_tiles import Hidden, ImageBatch
from tissueseg.encoders.layers import MLP, Attention, Block, seeded
from tissueseg.encoders.vit import ViTEncoder
from tissueseg.errors import ConfigError
from tissueseg.numbers import check_whole
from tissueseg.pretraining.autoencoder import (
    Guess,
    MaskedAutoencoder,
    Planes,
    Reconstruction,
    detached,
    patched,
)
from tissueseg.pretraining.masks import PatchMask

_EPSILON = 1e-6  # beside a patch's variance, as published
_RGB = 3
_INIT_STD = 0.02


class PatchAutoencoder(MaskedAutoencoder):
    """A ViT with a decoder.

    Args:
        encoder: whose positions fit the tiles: they are learnt for a grid of one size.
        mask: which patches are hidden.
        dim: width of the decoder.
        depth: its blocks.
        heads: of its attention.
        relative: whether each patch is to be filled in relative to its own mean and spread.
        seed: of the decoder's weights.

    Raises:
        ConfigError: an encoder of another kind, or sizes that cannot be.
    """

    encoder: ViTEncoder

    def __init__(
        self,
        encoder: ViTEncoder,
        mask: PatchMask,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        relative: bool = True,
        seed: int = 0,
    ) -> None:
        if not isinstance(encoder, ViTEncoder):
            raise ConfigError(
                "autoencoder=he trains a ViT: choose encoder=vit_demo or cellvit_256 with modality=he."
            )
        for key, value in (("dim", dim), ("depth", depth), ("heads", heads)):
            check_whole(f"autoencoder.{key}", value, 1)
        if dim % heads:
            raise ConfigError(f"autoencoder.heads={heads} does not divide autoencoder.dim={dim}.")
        super().__init__(encoder)
        self._mask, self._relative = mask, relative
        patch_px, tile_px = encoder.spec.patch_px, encoder.data.tile_px
        self._side = tile_px // patch_px
        with seeded(seed):
            self.embed = nn.Linear(encoder.spec.channels[0], dim)
            self.masked_token = nn.Parameter(_INIT_STD * torch.randn(dim))
            self.positions = nn.Parameter(sines(self._side, dim)[None])
            self.blocks = nn.ModuleList(
                Block(dim, Attention(dim, heads), MLP(dim, 4 * dim)) for _ in range(depth)
            )
            self.norm = nn.LayerNorm(dim)
            self.head = nn.Linear(dim, _RGB * patch_px**2)
        if encoder.spec.random_init:
            self._place_at_first()

    def hide(self, present: Tensor, generator: Generator) -> Hidden:
        """Draw which patches are hidden; all channels go together."""
        hidden = self._mask.draw(1, self._side**2, generator)
        return Hidden(hidden, torch.zeros(1, dtype=torch.int64))

    def forward(self, batch: ImageBatch) -> Reconstruction:
        """Fill in what is hidden."""
        hidden = batch.hidden[:, 0]
        target = self._patches(batch.image)
        if self._relative:
            target = (target - target.mean(-1, keepdim=True)) / self._spread(target)
        return Reconstruction(
            self._filled(batch.image, hidden)[:, None], target[:, None], hidden[:, None]
        )

    def planes(self, batch: ImageBatch, found: Reconstruction) -> Planes:
        """Red, green and blue; what is relative to a patch gets that patch's mean and spread."""
        image, filled = self._patches(batch.image), found.predicted[:, 0]
        if self._relative:
            filled = filled * self._spread(image) + image.mean(-1, keepdim=True)
        seen = ~batch.hidden[:, 0, :, None].expand_as(image)
        parts = (image, seen, torch.where(seen, image, filled))
        return Planes(*(patched(part.unflatten(-1, (_RGB, -1)).transpose(1, 2)) for part in parts))

    def guesses(self, batch: ImageBatch) -> Iterator[Guess]:
        """Red, green and blue of hidden patches; the baseline says the tile's mean colour that is seen.

        Where patches are filled in relative to themselves, so are the numbers that are compared, and
        the baseline knows nothing.
        """
        found = self.forward(batch)
        for tile in range(len(batch.image)):
            hidden = batch.hidden[tile, 0]
            predicted, target = (
                part[tile, 0][hidden].unflatten(-1, (_RGB, -1))
                for part in (found.predicted, found.target)
            )
            seen = found.target[tile, 0][~hidden].unflatten(-1, (_RGB, -1)).mean((0, 2))
            for channel in range(_RGB):
                wanted = target[:, channel].flatten()
                own = predicted[:, channel].float().flatten()
                yield Guess(channel, own, seen[channel].expand_as(wanted), wanted)

    def tensors(self) -> dict[str, Tensor]:
        """The encoder under CellViT's names, without the last norm, which its features do not pass."""
        encoder = {f"encoder.{n}": p for n, p in self.encoder.named_parameters()}
        decoder = {
            f"decoder.{n}": p for n, p in self.named_parameters() if not n.startswith("encoder.")
        }
        return detached(encoder | decoder)

    def _place_at_first(self) -> None:
        """Let a random network begin with positions that tell what is near (He et al. 2022)."""
        table = self.encoder.pos_embed
        patches = self._side**2
        if table.shape[1] > patches:
            with torch.no_grad():
                table[0, -patches:] = sines(self._side, table.shape[2])

    @staticmethod
    def _spread(patches: Tensor) -> Tensor:
        return (patches.var(-1, keepdim=True) + _EPSILON).sqrt()

    def _patches(self, image: Tensor) -> Tensor:
        """(B, N, 3 · patch²), ordered channel, row, column."""
        side = self.encoder.spec.patch_px
        cut = image.unfold(2, side, side).unfold(3, side, side)  # (B, 3, h, w, side, side)
        return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def _filled(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(B, N, 3 · patch²)."""
        encoder = self.encoder
        embedded = encoder.patch_embed(image)
        grid = (embedded.shape[1], embedded.shape[2])
        prefix, placed = encoder.placed_on(grid)
        patches = embedded.flatten(1, 2) + placed
        batch, dim = len(image), patches.shape[-1]
        seen = patches[~hidden].view(batch, -1, dim)  # as many in every tile
        tokens = torch.cat([prefix.expand(batch, -1, -1), seen], 1)
        for block in encoder.blocks:
            tokens = block(tokens)
        seen = self.embed(tokens[:, prefix.shape[1] :])
        whole = self.masked_token.to(seen.dtype).expand(batch, hidden.shape[1], -1).clone()
        whole = whole.masked_scatter(~hidden[..., None], seen) + self.positions
        for block in self.blocks:
            whole = block(whole)
        return self.head(self.norm(whole)).float()


def sines(side: int, dim: int) -> Tensor:
    """(side², dim) positions of a grid: half for the row and half for the column, sines and cosines.

    Of p · 10000^(−4k/dim), k < dim/4 (Vaswani et al. 2017, section 3.5, in two dimensions).

    Raises:
        ConfigError: dim is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"positions of {dim} features: wanted a multiple of 4.")
    angle = torch.arange(side)[:, None] * 10000.0 ** (-torch.arange(dim // 4) * 4 / dim)
    waves = torch.cat((angle.sin(), angle.cos()), 1)  # (side, dim / 2)
    rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    return torch.cat((rows, columns), 2).flatten(0, 1)
