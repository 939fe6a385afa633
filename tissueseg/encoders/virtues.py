"""VirTues: a transformer over channels and cells of spatial proteomics (Wenckstern et al. 2026).

Every channel is a grid of tokens that know their marker by its protein's vector; a summary token per
grid cell gathers them, and the summaries after four blocks are the features. Weights trained on H&E
tokens exist only where a file has them and the user says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tissueseg.contracts import LEVELS, DataSpec, EncoderSpec, MarkerLookup, Markers, Modality
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.layers import seeded
from tissueseg.encoders.virtues_layers import Block, dense, normed, summary_only, turns
from tissueseg.encoders.virtues_weights import DUAL, RELEASED, Sizes, fill, infer
from tissueseg.encoders.weights import Checkpoint, check_source, open_checkpoint, random_weights
from tissueseg.errors import ConfigError, SpecMismatchError, WeightsError

_RGB = 3


def dual_spec(trained_on_he: bool, **fields: Any) -> EncoderSpec:
    """The spec of weights in the dual layout: H&E counts only when the user states it was trained."""
    modalities = (Modality.HE, Modality.SP, Modality.HE_SP) if trained_on_he else (Modality.SP,)
    return EncoderSpec(modalities=modalities, **fields)


class VirTues(Encoder):
    """Published VirTues weights, or the same network at random.

    Args:
        spec: as configured; channels and patch come from the weights.
        data: what the images look like; H&E channels come first.
        weights: path or hub address; None with `spec.random_init`.
        markers: which channels of the panel have a marker vector, and the vectors.
        trained_on_he: the user's word that the file's H&E parameters were trained.
        levels: blocks (1-based) whose summaries are returned, shallow to deep; None: the last of
            every quarter, 4, 8, 12 and 16 of the released 16.
        chunk: tiles per pass; None: the whole batch.
        compile: compile each block with torch.compile.
        seed: of random weights; the global random state is left as it was.
        heads: of a random network, as are the three that follow; weights tell their own.
        hidden: width of the feed-forward network.
        pattern: `h`, `v` or `f` for each block, see `virtues_layers.KINDS`.
        marker_width: features of a marker vector; None: as many as those that are found have.

    Raises:
        ConfigError: weights together with random_init, or sizes and levels that cannot be.
        SpecMismatchError: H&E without trained H&E parameters.
        WeightsError: a file or marker vectors that do not fit.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        data: DataSpec,
        weights: str | None,
        markers: MarkerLookup,
        trained_on_he: bool = False,
        levels: Sequence[int] | None = None,
        chunk: int | None = None,
        compile: bool = False,
        seed: int = 0,
        heads: int = 8,
        hidden: int = 1024,
        pattern: str = "hvhvhvhvhvhvhvhv",
        marker_width: int | None = 640,
    ) -> None:
        check_source(weights, f"encoder={spec.name}", spec.random_init)
        if spec.random_init:
            file = None
            width = marker_width or _found_width(data, markers)
            sizes = Sizes(spec.channels[0], hidden, heads, spec.patch_px, width, pattern).check()
        else:
            file = open_checkpoint(weights, spec.name, (RELEASED, DUAL))
            sizes = infer(file)
        _check_he(spec, data.modality, file, trained_on_he)
        super().__init__(_measured(spec, sizes), data, chunk)
        self.levels, self.sizes = _checked(levels, sizes), sizes
        found = _markers(spec, data, markers, sizes.marker_width)
        self.register_buffer("vectors", torch.as_tensor(found.vectors, dtype=torch.float32))
        self.register_buffer("channels", torch.tensor(found.channels, dtype=torch.int64))
        self._notes = found.notes
        with seeded(seed):
            self._build(sizes)
        accounting = random_weights(self) if file is None else fill(self, file, sizes)
        self.spec = replace(self.spec, accounting=accounting)
        if compile:
            # one code for all blocks: by kind, dtype, raggedness and batch it outgrows the default of 8
            limits = torch._dynamo.config
            limits.recompile_limit = max(limits.recompile_limit, 64)
            for block in self.blocks:
                block.compile()
        self.freeze()

    def describe(self) -> list[str]:
        """Weights, scale, and which channels it sees by which protein."""
        known, all_ = len(self.get_buffer("channels")), len(self.data.panel)
        return [*super().describe(), f"sees {known} of {all_} SP channels", *self._notes]

    def encode(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        """Summaries after four blocks, before any last norm; channels without signal have no part."""
        return self._run(image, present, self.levels[-1])[1]

    def summaries(
        self, image: Tensor, present: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The summary grid (B, D, h, w) that VirTues itself ends with, and the levels.

        Args:
            image: (B, C, h · patch_px, w · patch_px).
            present: (B, C) bool, False for channels without signal; None: all have some.
        """
        with torch.no_grad():
            return self._run(image, present, len(self.blocks))

    def _build(self, sizes: Sizes) -> None:
        dim, pixels = sizes.dim, sizes.patch_px**2
        self.summary = nn.Parameter(torch.randn(dim))
        self.pixels = nn.Linear(pixels, dim)
        self.marker = nn.Linear(sizes.marker_width, dim)
        self.he_pixels: nn.Linear | None = None
        if "he" in self.data.modality.images:
            self.he_pixels = nn.Linear(_RGB * pixels, dim)
            self.he_marker = nn.Parameter(torch.randn(dim))
        self.blocks = nn.ModuleList(
            Block(kind, dim, sizes.heads, sizes.hidden) for kind in sizes.pattern
        )
        self.norm = nn.LayerNorm(dim) if sizes.last_norm else None

    def _run(
        self, image: Tensor, present: Tensor | None, depth: int
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        dtype = self.matmul_dtype(image.device.type)
        patch = self.sizes.patch_px
        grid = (image.shape[-2] // patch, image.shape[-1] // patch)
        width = self.sizes.dim // self.sizes.heads
        levels = []
        with torch.autocast(image.device.type, enabled=False):  # blocks choose their dtypes
            turn = turns(grid, width, image.device, dtype)
            tokens, seen = self._tokens(image, present, dtype)
            narrow = summary_only(self.sizes.pattern[:depth])
            for n in range(depth):
                tokens = self.blocks[n](tokens, turn, seen, narrow[n], dtype)
                if n + 1 in self.levels:  # a copy, for blocks work in place
                    levels.append(tokens[:, 0].to(image.dtype, copy=True))
            final = tokens[:, 0]
            if self.norm is not None:
                final = normed(final, self.norm, image.dtype)
            final = final.to(image.dtype)
        return _as_grid(final, grid), tuple(_as_grid(level, grid) for level in levels)

    def matmul_dtype(self, device: str) -> torch.dtype:
        """What autocast asks for. Sums stay float32: in bfloat16 they would double the error."""
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.summary.dtype

    def _tokens(
        self, image: Tensor, present: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """Summary, markers, then H&E as (B, S, N, D); which of them count as (B, S) bool.

        A channel that no tile of the batch has is left out at once.
        """
        lead = 0 if self.he_pixels is None else _RGB
        channels, marks, seen = self.get_buffer("channels"), self.get_buffer("vectors"), None
        if present is not None and not (known := present[:, lead:][:, channels].cpu()).all():
            kept = known.any(0)
            seen = F.pad(known[:, kept], (1, int(lead > 0)), value=True)
            seen = None if seen.all() else seen.to(image.device)
            kept = kept.to(image.device)
            channels, marks = channels[kept], marks[kept]
        proteomic = image[:, lead:].index_select(1, channels)
        if self.spec.normalisation.sp_blur_sigma_px > 0 and len(channels):
            proteomic = blurred(proteomic, self.spec.normalisation.sp_blur_sigma_px)
        cells = patches(proteomic, self.sizes.patch_px)  # (B, C, N, pixels)
        batch, count, number = cells.shape[:3]
        tokens = image.new_empty(
            (batch, 1 + count + int(lead > 0), number, self.sizes.dim), dtype=self.summary.dtype
        )
        tokens[:, 0] = self.summary
        mark = self.marker(marks)[:, None]
        torch.add(dense(cells.to(dtype), self.pixels), mark, out=tokens[:, 1 : 1 + count])
        if self.he_pixels is not None:
            rgb = patches(image[:, :_RGB], self.sizes.patch_px).transpose(1, 2).flatten(2)
            tokens[:, -1] = dense(rgb.to(dtype), self.he_pixels) + self.he_marker
        return tokens, seen


def patches(image: Tensor, side: int) -> Tensor:
    """Cut (B, C, H, W) into (B, C, N, side²), cells and their pixels in row-major order."""
    batch, channels, height, width = image.shape
    cut = image.reshape(batch, channels, height // side, side, width // side, side)
    cells = (height // side) * (width // side)
    return cut.transpose(3, 4).reshape(batch, channels, cells, side * side)


def blurred(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian of 3 × 3 on every channel, the border mirrored, as in VirTues' own standardisation."""
    line = torch.exp(-0.5 * (torch.arange(-1, 2, device=image.device) / sigma_px) ** 2)
    line = (line / line.sum()).to(image.dtype)
    flat = F.pad(image.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(flat, torch.outer(line, line)[None, None]).view_as(image)


def _as_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, N, D) as (B, D, h, w): a view, in channels-last layout."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def _measured(spec: EncoderSpec, sizes: Sizes) -> EncoderSpec:
    """The configured spec with what the weights say; a stride that followed the patch still does."""
    stride = None if spec.stride_px == spec.patch_px else spec.stride_px
    channels = (sizes.dim,) * LEVELS
    return replace(spec, channels=channels, patch_px=sizes.patch_px, stride_px=stride)


def _checked(levels: Sequence[int] | None, sizes: Sizes) -> tuple[int, ...]:
    depth = len(sizes.pattern)
    quarters = (depth * part // LEVELS for part in range(1, LEVELS + 1))
    levels = tuple(quarters if levels is None else levels)
    if len(levels) != LEVELS or levels != tuple(sorted({n for n in levels if 1 <= n <= depth})):
        raise ConfigError(
            f"encoder.levels={list(levels)}, wanted {LEVELS} blocks from 1 to {depth}, each deeper than "
            "the one before."
        )
    return levels


def _check_he(
    spec: EncoderSpec, modality: Modality, file: Checkpoint | None, trained_on_he: bool
) -> None:
    if modality == Modality.SP:
        return
    if file is not None and not {"he_marker", "he_patch_encoder.weight"} <= set(file.tensors):
        reason = f"{file.source} has no H&E parameters"
    elif not trained_on_he:
        reason = "nobody stated that its H&E parameters were trained (encoder.trained_on_he)"
    else:
        return
    raise SpecMismatchError(
        f"encoder={spec.name} with modality={modality.value}: {reason}. Choose modality=sp or another "
        "encoder."
    )


def _found_width(data: DataSpec, lookup: MarkerLookup) -> int:
    return lookup(data.panel).vectors.shape[1] if "sp" in data.modality.images else 1


def _markers(spec: EncoderSpec, data: DataSpec, lookup: MarkerLookup, width: int) -> Markers:
    if "sp" not in data.modality.images:
        return Markers((), torch.zeros(0, width).numpy())
    found = lookup(data.panel)
    if found.vectors.shape != (len(found.channels), width):
        raise WeightsError(
            f"encoder={spec.name} takes marker vectors of {width} features, got {len(found.channels)} "
            f"channels with vectors of shape {list(found.vectors.shape)}: give the table its weights "
            "were trained with."
        )
    return found
