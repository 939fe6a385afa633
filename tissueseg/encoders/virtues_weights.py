"""Published VirTues weights: what sizes their shapes tell, and where each tensor goes in our network.

Two layouts were published, which name the projections of pixels and markers differently. Neither states
its number of heads or which blocks attend where; the stored rotary tables tell both.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tissueseg.contracts import Accounting
from tissueseg.encoders.virtues_layers import KINDS, ROTARY, frequencies, pairing
from tissueseg.encoders.weights import Checkpoint, Rules, load
from tissueseg.errors import ConfigError, WeightsError

RELEASED, DUAL = "virtues", "virtues_dual"

_PIXELS = {RELEASED: "patch_encoder", DUAL: "multiplex_patch_encoder"}
_MARKERS = {RELEASED: "prior_embedding_encoder", DUAL: "protein_encoder"}
_BLOCK = "encoder.{}.encoder_layer."
ATTENTION = _BLOCK + "multi_head_attention."
TABLE = ATTENTION + "pos_emb.rope1d."
_IGNORED: Rules = (
    (r"encoder\.\d+\..*\.rope1d\.(sin|cos)$", "rotary tables, equal to the formula"),
    (r"masked_token$", "used in pre-training only"),
    (r"decoder\.", "VirTues' own decoder"),
)
_UNUSED_HE: Rules = ((r"he_(patch_encoder\.|marker$)", "H&E tokens, which this run does not use"),)
_NAMES = {
    "norm1": "layernorm1",
    "norm2": "layernorm2",
    "attention.qkv": "multi_head_attention.W_qkv",
    "attention.out": "multi_head_attention.W_o",
    "up": "feedforward.0",
    "down": "feedforward.3",
}


class Sizes(NamedTuple):
    """All that is needed to build the network."""

    dim: int
    hidden: int
    heads: int
    patch_px: int
    marker_width: int
    pattern: str  # one letter of KINDS for each block
    last_norm: bool = False

    def check(self) -> Sizes:
        """Refuse sizes that no network has.

        Raises:
            ConfigError: a pattern of other letters, or heads that do not divide the width.
        """
        if not self.pattern or set(self.pattern) - set(KINDS):
            raise ConfigError(
                f"encoder.pattern={self.pattern!r}, wanted one letter of {KINDS} for each block."
            )
        if self.heads < 1 or self.dim % (4 * self.heads):
            raise ConfigError(
                f"encoder.heads={self.heads} does not fit {self.dim} channels: a head is cut in four "
                "for two-dimensional positions, so give channels that are a multiple of 4 · heads."
            )
        return self


def infer(checkpoint: Checkpoint) -> Sizes:
    """Read the sizes of a network off the shapes of its weights.

    Raises:
        WeightsError: shapes that contradict each other, or positions other than the formula's.
    """
    given = checkpoint.tensors
    dim, pixels = _shape(checkpoint, _PIXELS[checkpoint.layout] + ".weight")
    patch = math.isqrt(pixels)
    if patch * patch != pixels:
        raise WeightsError(
            f"{checkpoint.source} projects patches of {pixels} pixels, wanted a square number: these "
            "weights belong to another architecture."
        )
    found = {int(m[1]) for name in given if (m := re.match(r"encoder\.(\d+)\.", name))}
    if found != set(range(len(found))) or not found:
        raise WeightsError(
            f"{checkpoint.source} has blocks {sorted(found)}, wanted 0, 1, 2, … without a gap: it is "
            "incomplete."
        )
    pattern = "".join("h" if TABLE.format(n) + "cos" in given else "v" for n in range(len(found)))
    hidden, _ = _shape(checkpoint, _BLOCK.format(0) + "feedforward.0.weight")
    return Sizes(
        dim=dim,
        hidden=hidden,
        heads=_heads(checkpoint, pattern, dim),
        patch_px=patch,
        marker_width=_shape(checkpoint, _MARKERS[checkpoint.layout] + ".weight")[1],
        pattern=pattern,
        last_norm="layer_norm.weight" in given,
    )


def fill(network: nn.Module, checkpoint: Checkpoint, sizes: Sizes) -> Accounting:
    """Copy a checkpoint into the network; H&E tokens stay behind where it has no place for them."""
    names = [name for name, _ in network.named_parameters()]
    ignored = _IGNORED
    if checkpoint.layout == DUAL and "he_marker" not in names:
        ignored = (*_IGNORED, *_UNUSED_HE)
    fused = checkpoint._replace(tensors=_fused(checkpoint, sizes))
    return load(network, fused, {n: published(n, checkpoint.layout) for n in names}, ignored)


def _heads(checkpoint: Checkpoint, pattern: str, dim: int) -> int:
    """Heads by the width of the rotary tables, which are compared with the formula.

    Half a head's features turn with the row and half with the column, both by the same table.
    """
    tables = [n for n, kind in enumerate(pattern) if kind in ROTARY]
    if not tables:
        raise WeightsError(
            f"{checkpoint.source} holds no rotary tables, so neither its heads nor its positions are "
            "known: use the file as published."
        )
    width = _shape(checkpoint, TABLE.format(tables[0]) + "cos")[1]
    if width % 2 or dim % (2 * width):
        raise WeightsError(
            f"{checkpoint.source} has rotary tables of {width} columns, which do not fit a width of "
            f"{dim}: these weights belong to another architecture."
        )
    for block in tables:
        for name in ("cos", "sin"):
            _check_table(checkpoint, TABLE.format(block) + name, width)
    return dim // (2 * width)


def _check_table(checkpoint: Checkpoint, name: str, width: int) -> None:
    rows, columns = _shape(checkpoint, name)
    stored = checkpoint.tensors[name]
    angle = torch.arange(rows, dtype=torch.float64)[:, None] * frequencies(width).repeat(2)
    wanted = angle.cos() if name.endswith("cos") else angle.sin()
    # float32 angles of a thousand radians are known to some 1e-4
    allowed = max(1e-3, torch.finfo(stored.dtype).eps) if stored.is_floating_point() else 0.0
    if columns != width or not torch.allclose(stored.double(), wanted, rtol=0, atol=allowed):
        raise WeightsError(
            f"{checkpoint.source}: {name} differs from cos and sin of p · 10000^(−2k/{width}): the "
            "weights were trained with other positions than this encoder computes."
        )


def _shape(checkpoint: Checkpoint, name: str) -> tuple[int, int]:
    found = checkpoint.tensors.get(name)
    if found is None or found.ndim != 2:
        had = "lacks it" if found is None else f"has shape {list(found.shape)}"
        raise WeightsError(
            f"{checkpoint.source}: wanted a matrix {name}, the file {had}: it is incomplete or belongs "
            "to another architecture."
        )
    return found.shape[0], found.shape[1]


def _fused(checkpoint: Checkpoint, sizes: Sizes) -> dict[str, Tensor]:
    """With one projection (head, query/key/value, feature) in place of three, in each block."""
    tensors = dict(checkpoint.tensors)
    for block, kind in enumerate(sizes.pattern):
        for end in ("weight", "bias"):
            names = [f"{ATTENTION.format(block)}W_{part}.{end}" for part in "qkv"]
            heads = [_by_head(checkpoint, name, sizes) for name in names]
            if kind in ROTARY:
                order = pairing(sizes.dim // sizes.heads)
                heads = [heads[0][:, order], heads[1][:, order], heads[2]]
            for name in names:
                del tensors[name]
            tensors[f"{ATTENTION.format(block)}W_qkv.{end}"] = torch.stack(heads, 1).flatten(0, 2)
    return tensors


def _by_head(checkpoint: Checkpoint, name: str, sizes: Sizes) -> Tensor:
    """A projection's weight (heads, d, dim) or bias (heads, d)."""
    found = checkpoint.tensors.get(name)
    wanted = (sizes.dim, sizes.dim) if name.endswith("weight") else (sizes.dim,)
    if found is None or tuple(found.shape) != wanted:
        had = "lacks it" if found is None else f"has shape {list(found.shape)}"
        raise WeightsError(
            f"{checkpoint.source}: wanted {name} of shape {list(wanted)}, the file {had}: it is "
            "incomplete or belongs to another architecture."
        )
    return found.unflatten(0, (sizes.heads, -1))


def published(name: str, layout: str) -> str:
    """A checkpoint's name for one of our parameters."""
    if match := re.match(r"blocks\.(\d+)\.(.+)\.(weight|bias)$", name):
        return f"{_BLOCK.format(match[1])}{_NAMES[match[2]]}.{match[3]}"
    stems = {
        "summary": "patch_summary_token",
        "pixels": _PIXELS[layout],
        "marker": _MARKERS[layout],
        "norm": "layer_norm",
        "he_pixels": "he_patch_encoder",
        "he_marker": "he_marker",
    }
    stem, dot, end = name.partition(".")
    return stems[stem] + dot + end
