"""Small published-looking weights: VirTues' released layout, a whole CellViT, a marker table."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from tissueseg.contracts import EncoderSpec
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.store.demo import CLASSES, PANEL

DIM, HIDDEN, HEADS, PATCH, MARKER = 16, 24, 2, 8, 12


class Published(NamedTuple):
    virtues: Path
    cellvit: Path
    table: Path


def write_published(folder: Path) -> Published:
    draw = torch.Generator().manual_seed(0)
    table = {c.uniprot: torch.randn(MARKER, generator=draw) for c in PANEL if c.uniprot}
    found = Published(
        folder / "virtues.safetensors", folder / "vit.pth", folder / "table.safetensors"
    )
    save_file(table, found.table)
    save_file(_virtues(draw), found.virtues)
    config = {"transformations.normalize.mean": [0.6, 0.5, 0.7]}
    state = _vit(draw) | _decoder()
    torch.save({"arch": "CellViT256", "config": config, "model_state_dict": state}, found.cellvit)
    return found


def _linear(name: str, out: int, into: int, draw: torch.Generator) -> dict[str, Tensor]:
    weight = torch.randn(out, into, generator=draw) * into**-0.5
    return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(out)}


def _norm(name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(DIM), f"{name}.bias": torch.zeros(DIM)}


def _virtues(draw: torch.Generator) -> dict[str, Tensor]:
    state = {"patch_summary_token": torch.randn(DIM, generator=draw)}
    state |= {"masked_token": torch.zeros(DIM)} | _norm("layer_norm")
    state |= _linear("patch_encoder", DIM, PATCH**2, draw)
    state |= _linear("prior_embedding_encoder", DIM, MARKER, draw)
    for n in range(4):
        block = f"encoder.{n}.encoder_layer"
        attention = f"{block}.multi_head_attention"
        for part in "qkvo":
            state |= _linear(f"{attention}.W_{part}", DIM, DIM, draw)
        state |= _linear(f"{block}.feedforward.0", HIDDEN, DIM, draw)
        state |= _linear(f"{block}.feedforward.3", DIM, HIDDEN, draw)
        state |= _norm(f"{block}.layernorm1") | _norm(f"{block}.layernorm2")
        if n % 2 == 0:
            state |= {f"{attention}.pos_emb.rope1d.{k}": v for k, v in _rotary().items()}
    return {f"encoder.{name}": value for name, value in state.items()}


def _rotary() -> dict[str, Tensor]:
    half = DIM // HEADS // 2
    speed = 10000.0 ** (-torch.arange(0, half, 2, dtype=torch.float64) / half)
    angle = torch.arange(1200)[:, None] * torch.cat((speed, speed))
    return {"cos": angle.cos().float(), "sin": angle.sin().float()}


def _vit(draw: torch.Generator) -> dict[str, Tensor]:
    """Four blocks of width 16, positions for 224 px, under the name of an encoder."""
    state = {
        "cls_token": torch.randn(1, 1, DIM, generator=draw),
        "pos_embed": torch.randn(1, 1 + 14 * 14, DIM, generator=draw),
        "patch_embed.proj.weight": torch.randn(DIM, 3, 16, 16, generator=draw) / 28,
        "patch_embed.proj.bias": torch.zeros(DIM),
    } | _norm("norm")
    for n in range(4):
        block = f"blocks.{n}"
        state |= _norm(f"{block}.norm1") | _norm(f"{block}.norm2")
        state |= _linear(f"{block}.attn.qkv", 3 * DIM, DIM, draw)
        state |= _linear(f"{block}.attn.proj", DIM, DIM, draw)
        state |= _linear(f"{block}.mlp.fc1", 4 * DIM, DIM, draw)
        state |= _linear(f"{block}.mlp.fc2", DIM, 4 * DIM, draw)
    return {f"encoder.{name}": value for name, value in state.items()}


WIDTH = 1 / 64
"""decoder.width of the decoder below: every hidden width is the least there is."""


def _decoder() -> dict[str, Tensor]:
    """Our decoder under the names CellViT gives its parts; it types the demo's cells at random."""
    spec = EncoderSpec("vit", ("he",), (DIM,) * 4, 16)
    heads = {"classes": {}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = SkipDecoder(spec, 3, len(CLASSES), heads, width=WIDTH, share="branches")
    branch = "nuclei_type_maps_decoder"
    names = {"branches.classes": branch, "decoder0_header.classes": f"{branch}.decoder0_header"}

    def published(name: str) -> str:
        lead = ".".join(name.split(".")[:2])
        return name.replace(lead, names[lead], 1) if lead in names else name

    return {published(name): value for name, value in ours.state_dict().items()}
