"""Masked-marker modelling: VirTues learns to fill in hidden tokens of SP channels.

As published (Wenckstern et al. 2026, Methods): the encoder sees the tokens that are left and the summary
tokens; hidden ones keep the mask token and their marker. For each channel a decoder of full-attention
blocks takes the summaries and the channel's tokens, and gives pixels. Two departures: only some channels
of a tile are filled in at a step, which decoding is most of, and each tile counts alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from tissueseg.data.image_tiles import Hidden, ImageBatch
from tissueseg.encoders.layers import seeded
from tissueseg.encoders.virtues import VirTues, blurred, patches
from tissueseg.encoders.virtues_layers import Block, Turn, dense, normed, turns
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
from tissueseg.pretraining.masks import MarkerMask
from tissueseg.pretraining.virtues_file import released
from tissueseg.pretraining.visible import Visible, picked, turned

_DECODER = "decoder."


class MarkerAutoencoder(MaskedAutoencoder):
    """VirTues with a decoder.

    Args:
        encoder: VirTues, of SP alone.
        vectors: (P, width) float32 of all markers that any store has.
        mask: which tokens are hidden.
        depth: blocks of the decoder.
        decoded: channels of a tile that are filled in at a step; None: all.
        seed: of the decoder's weights.

    Raises:
        ConfigError: an encoder of another kind, or sizes that cannot be.
    """

    encoder: VirTues

    def __init__(
        self,
        encoder: VirTues,
        vectors: Tensor,
        mask: MarkerMask,
        depth: int = 2,
        decoded: int | None = 4,
        seed: int = 0,
    ) -> None:
        if not isinstance(encoder, VirTues) or encoder.he_pixels is not None:
            raise ConfigError(
                "autoencoder=sp trains VirTues on spatial proteomics: choose encoder=virtues or "
                "virtues_demo with modality=sp."
            )
        if set(encoder.sizes.pattern) - set("hv"):
            raise ConfigError(
                f"encoder.pattern={encoder.sizes.pattern}: blocks of kind h and v can be trained."
            )
        check_whole("autoencoder.depth", depth, 1, note="blocks")
        if decoded is not None:
            check_whole("autoencoder.decoded", decoded, 1, note="channels, or null for all")
        super().__init__(encoder)
        self._mask, self._decoded = mask, decoded
        sizes = encoder.sizes
        self.register_buffer("vectors", vectors, persistent=False)
        with seeded(seed):
            self.masked_token = nn.Parameter(torch.randn(sizes.dim) / sizes.dim**0.5)
            self.blocks = nn.ModuleList(
                Block("f", sizes.dim, sizes.heads, sizes.hidden) for _ in range(depth)
            )
            self.head = nn.Linear(sizes.dim, sizes.patch_px**2)

    def hide(self, present: Tensor, generator: Generator) -> Hidden:
        """Draw what is hidden of a tile, and which of its channels are filled in."""
        cells = (self.encoder.data.tile_px // self.encoder.sizes.patch_px) ** 2
        hidden = self._mask.draw(1, len(present), cells, generator)[0]
        order = torch.randperm(len(present), generator=generator)
        order = order[
            (~present[order]).int().argsort(stable=True)
        ]  # those that are there come first
        count = min(self._decoded or len(present), len(present))
        return Hidden(hidden | ~present[:, None], order[:count])

    def forward(self, batch: ImageBatch) -> Reconstruction:
        """Fill in what is hidden."""
        cells = self._cells(batch.image)
        predicted = self._filled(batch, cells, batch.hidden, batch.decoded)
        wanted = batch.decoded[..., None, None].expand(-1, -1, *cells.shape[2:])
        there = batch.present.gather(1, batch.decoded)[..., None]
        hidden = batch.hidden.gather(1, batch.decoded[..., None].expand(-1, -1, cells.shape[2]))
        return Reconstruction(predicted, cells.gather(1, wanted), hidden & there)

    def planes(self, batch: ImageBatch, found: Reconstruction) -> Planes:
        """The channels that were filled in."""
        seen = ~found.counts[..., None].expand_as(found.target)
        filled = torch.where(seen, found.target, found.predicted)
        return Planes(patched(found.target), patched(seen), patched(filled))

    def guesses(self, batch: ImageBatch) -> Iterator[Guess]:
        """Each channel from all others; the baseline says the mean of these at every pixel."""
        cells = self._cells(batch.image)
        for channel in range(cells.shape[1]):
            there = batch.present[:, channel] & (batch.present.sum(1) > 1)
            hidden = ~batch.present[..., None].expand(-1, -1, cells.shape[2]).clone()
            hidden[:, channel] = True
            decoded = torch.full_like(batch.decoded[:, :1], channel)
            predicted = self._filled(batch, cells, hidden, decoded)[:, 0]
            others = batch.present.clone()
            others[:, channel] = False
            weight = others / others.sum(1, keepdim=True).clamp(min=1)
            baseline = torch.einsum("bc,bcnp->bnp", weight.to(cells.dtype), cells)
            for tile in there.nonzero()[:, 0].tolist():
                parts = (predicted[tile], baseline[tile], cells[tile, channel])
                yield Guess(
                    int(batch.markers[tile, channel]), *(p.float().flatten() for p in parts)
                )

    def tensors(self) -> dict[str, Tensor]:
        """In VirTues' released layout."""
        own = {"masked_token": self.masked_token}
        decoder = {n: t for n, t in self.named_parameters() if n.startswith(("blocks.", "head."))}
        return detached(released(self.encoder, own) | {_DECODER + n: t for n, t in decoder.items()})

    def _of_file(self, name: str, tensors: dict[str, Tensor]) -> Tensor | None:
        if name == "masked_token":
            return tensors.get("encoder.masked_token", tensors.get("masked_token"))
        return super()._of_file(name, tensors)

    def _cells(self, image: Tensor) -> Tensor:
        """(B, C, N, patch²) pixels as the encoder sees them."""
        if (sigma_px := self.encoder.spec.normalisation.sp_blur_sigma_px) > 0:
            image = blurred(image, sigma_px)
        return patches(image, self.encoder.sizes.patch_px)

    def _filled(self, batch: ImageBatch, cells: Tensor, hidden: Tensor, decoded: Tensor) -> Tensor:
        """(B, c, N, patch²): the pixels of the decoded channels (B, c)."""
        encoder, device = self.encoder, batch.image.device
        dtype = encoder.matmul_dtype(device.type)
        grid = tuple(side // encoder.sizes.patch_px for side in batch.image.shape[-2:])
        width = encoder.sizes.dim // encoder.sizes.heads
        with torch.autocast(device.type, enabled=False):  # blocks choose their dtypes
            turn = turns((grid[0], grid[1]), width, device, dtype)
            marks = encoder.marker(self.get_buffer("vectors")[batch.markers])  # (B, C, D)
            seen = F.pad(~hidden & batch.present[..., None], (0, 0, 1, 0), value=True)
            visible = Visible.of(seen)
            tokens = self._encoded(visible, cells, marks, turn, dtype)
            return self._pixels(visible, tokens, marks, decoded, turn, dtype)

    def _encoded(
        self, visible: Visible, cells: Tensor, marks: Tensor, turn: Turn, dtype: torch.dtype
    ) -> Tensor:
        """(T, D) tokens that are seen, after the encoder's blocks."""
        encoder = self.encoder
        tile, channel, cell = visible.tile, visible.channel, visible.cell
        of = (channel - 1).clamp(min=0)
        own = dense(cells[tile, of, cell].to(dtype), encoder.pixels)
        own = own + picked(marks.flatten(0, 1), tile * marks.shape[1] + of)
        tokens = torch.where((channel == 0)[:, None], encoder.summary, own)
        for block in encoder.blocks:
            assert isinstance(block, Block)
            tokens = turned(block, tokens, visible, turn, dtype)
        return tokens if encoder.norm is None else normed(tokens, encoder.norm, tokens.dtype)

    def _pixels(
        self,
        visible: Visible,
        tokens: Tensor,
        marks: Tensor,
        decoded: Tensor,
        turn: Turn,
        dtype: torch.dtype,
    ) -> Tensor:
        batch, count = decoded.shape
        summaries = picked(tokens, visible.place[:, 0])  # (B, N, D)
        wide = (decoded + 1)[..., None].expand(-1, -1, visible.place.shape[2])
        place = visible.place.gather(1, wide)  # (B, c, N)
        own = picked(tokens, place.clamp(max=len(tokens) - 1))
        mark = marks.gather(1, decoded[..., None].expand(-1, -1, marks.shape[2]))
        query = (self.masked_token + mark)[:, :, None]
        own = torch.where((place < len(tokens))[..., None], own, query)  # (B, c, N, D)
        both = torch.stack((summaries[:, None].expand(-1, count, -1, -1), own), 2)
        mixed = both.flatten(0, 1)  # (B · c, 2, N, D)
        for block in self.blocks:
            mixed = block(mixed, turn, None, False, dtype)
        pixels = dense(mixed[:, 1].to(dtype), self.head)
        return pixels.unflatten(0, (batch, count)).float()
