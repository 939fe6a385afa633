"""What H&E transformers share: sizes read from a checkpoint, weights given or random, kept blocks.

A checkpoint's shapes say what network it holds. They are compared with the encoder that was asked for
before anything is built, so that the wrong file is named rather than the first tensor that differs.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tissueseg.contracts import LEVELS, DataSpec, EncoderSpec, Modality
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.layers import seeded
from tissueseg.encoders.weights import (
    CELLVIT_IGNORED,
    Checkpoint,
    check_source,
    he_normalisation,
    load,
    open_checkpoint,
    random_weights,
)
from tissueseg.errors import ConfigError, SpecMismatchError, WeightsError

MLP_RATIO = 4


@dataclass(frozen=True)
class Sizes:
    """What the shapes of any transformer's checkpoint tell."""

    dim: int  # width of a token
    depth: int  # blocks
    patch_px: int
    heads: int
    hidden: int  # width inside the feed-forward networks


class TransformerEncoder(Encoder):
    """An H&E transformer whose token grids are kept after four of its blocks.

    A subclass sets what `build` needs, gets its checkpoint from `open` and ends with `fill`.

    Args:
        spec: four equal channels.
        data: what the images look like.
        levels: the four blocks after which features are taken, counted from 1.
        chunk: tiles encoded at a time; None: the whole batch.

    Raises:
        ConfigError: levels that are not four, or do not rise; channels that differ.
    """

    layout: ClassVar[str]
    """Of its checkpoints."""
    blocks: nn.ModuleList

    def __init__(
        self, spec: EncoderSpec, data: DataSpec, levels: Sequence[int], chunk: int | None
    ) -> None:
        super().__init__(spec, data, chunk)
        if data.modality != Modality.HE:
            raise SpecMismatchError(
                f"encoder={spec.name} sees H&E alone, got modality={data.modality.value}: choose "
                "modality=he, or encoder=pair for an encoder beside it."
            )
        self.levels = tuple(levels)
        rising = (0, *self.levels)
        if len(self.levels) != LEVELS or any(a >= b for a, b in pairwise(rising)):
            raise ConfigError(
                f"encoder.levels={list(levels)}, wanted {LEVELS} rising block numbers, counted from 1."
            )
        if len(set(spec.channels)) != 1:
            raise ConfigError(
                f"encoder={spec.name} got spec.channels={list(spec.channels)}, wanted {LEVELS} equal "
                "ones: all blocks of a transformer have one width."
            )

    @abstractmethod
    def build(self, sizes: Any) -> None:
        """Make every parameter; their values count only where weights are random.

        Args:
            sizes: the subclass's own kind of `Sizes`.
        """

    def named(self) -> Mapping[str, str]:
        """Parameter -> the checkpoint's name for it, where the two differ."""
        return {}

    def open(self, weights: str | None) -> Checkpoint | None:
        """The checkpoint; None where random weights were asked for.

        Raises:
            WeightsError: both were, or neither, or the file holds something else.
        """
        check_source(weights, f"encoder={self.spec.name}", self.spec.random_init)
        if self.spec.random_init:
            return None
        return open_checkpoint(weights, self.spec.name, (self.layout,))

    def fill(self, checkpoint: Checkpoint | None, sizes: Sizes, seed: int, compile: bool) -> None:
        """Build, load or draw the weights, say what became of them, and freeze.

        Raises:
            WeightsError: the checkpoint does not fit the encoder.
            ConfigError: heads that do not divide the width.
        """
        if checkpoint is not None:
            _check_fit(self.spec, self.levels[-1], checkpoint, sizes)
        if sizes.heads < 1 or sizes.dim % sizes.heads:
            raise ConfigError(
                f"encoder.heads={sizes.heads} does not divide the {sizes.dim} features of "
                f"encoder={self.spec.name}: choose the number it was trained with."
            )
        if checkpoint is None:
            with seeded(seed):
                self.build(sizes)
            self.spec = replace(self.spec, accounting=random_weights(self))
        else:
            with torch.device("meta"):  # no time is lost on values that are overwritten
                self.build(sizes)
            self.to_empty(device="cpu")
            self.spec = replace(
                self.spec,
                accounting=load(self, checkpoint, self.named(), CELLVIT_IGNORED),
                normalisation=he_normalisation(checkpoint, self.spec.normalisation),
            )
        self.freeze()
        if compile:
            for block in self.blocks:
                block.compile()

    def kept(self, tokens: Tensor) -> list[Tensor]:
        """Tokens after each of the levels' blocks."""
        kept = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.levels:
                kept.append(tokens)
        return kept


def shape(checkpoint: Checkpoint, name: str, dims: int) -> torch.Size:
    """Shape of a tensor that sizes are read from.

    Raises:
        WeightsError: it is missing, or has another number of dimensions.
    """
    if name not in checkpoint.tensors:
        raise WeightsError(f"{checkpoint.source} lacks {name} of the encoder: it is incomplete.")
    found = checkpoint.tensors[name].shape
    if len(found) != dims:
        raise WeightsError(
            f"{checkpoint.source}: {name} has shape {list(found)}, wanted {dims} dimensions: these "
            "weights belong to another architecture."
        )
    return found


def depth(checkpoint: Checkpoint) -> int:
    """Number of blocks, by the highest that has tensors."""
    numbers = (re.match(r"blocks\.(\d+)\.", name) for name in checkpoint.tensors)
    return 1 + max(int(found[1]) for found in numbers if found)


def _check_fit(spec: EncoderSpec, last: int, checkpoint: Checkpoint, sizes: Sizes) -> None:
    for what, got, wanted in (
        ("tokens of width", sizes.dim, spec.channels[0]),
        ("a number of blocks of", sizes.depth, last),
        ("patches of a side in px of", sizes.patch_px, spec.patch_px),
    ):
        if got != wanted:
            raise WeightsError(
                f"{checkpoint.source} has {what} {got}, but encoder={spec.name} wants {wanted}: choose "
                "the encoder that fits the file."
            )
