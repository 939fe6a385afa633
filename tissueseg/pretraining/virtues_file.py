"""A VirTues encoder under the names of the released file, as `virtues_weights` reads it back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tissueseg.encoders.virtues import VirTues
from tissueseg.encoders.virtues_layers import ROTARY, frequencies, pairing
from tissueseg.encoders.virtues_weights import ATTENTION, RELEASED, TABLE, Sizes, published

POSITIONS = 1200  # rows of the rotary tables, as released: the longest side of a grid

_PREFIX = "encoder."


def released(encoder: VirTues, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name -> tensor.

    Args:
        encoder: whose last norm, if it has one, comes with it.
        own: tensors of the encoder that are used in pre-training only.
    """
    found: dict[str, Tensor] = dict(own)
    for name, parameter in encoder.named_parameters():
        block = name.split(".")[1] if ".attention.qkv." in name else None
        if block is None:
            found[published(name, RELEASED)] = parameter
            continue
        end = name.rpartition(".")[2]
        parts = _parted(parameter, encoder.sizes, encoder.sizes.pattern[int(block)])
        for letter, part in zip("qkv", parts, strict=True):
            found[f"{ATTENTION.format(block)}W_{letter}.{end}"] = part
    width = encoder.sizes.dim // encoder.sizes.heads // 2
    angle = torch.arange(POSITIONS, dtype=torch.float64)[:, None] * frequencies(width).repeat(2)
    for block, kind in enumerate(encoder.sizes.pattern):
        if kind in ROTARY:
            found[TABLE.format(block) + "cos"] = angle.cos()
            found[TABLE.format(block) + "sin"] = angle.sin()
    return {_PREFIX + name: tensor for name, tensor in found.items()}


def _parted(fused: Tensor, sizes: Sizes, kind: str) -> list[Tensor]:
    """Rows (head, query/key/value, feature) as three projections, features in published order."""
    parts = list(fused.unflatten(0, (sizes.heads, 3, -1)).unbind(1))
    if kind in ROTARY:
        order = torch.tensor(pairing(sizes.dim // sizes.heads)).argsort()
        parts[:2] = (part[:, order] for part in parts[:2])
    return [part.flatten(0, 1) for part in parts]
