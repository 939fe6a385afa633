"""VirTues checkpoints as published, made here, and the network as a plain loop over sequences."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tissueseg.contracts import Channel, DataSpec, EncoderSpec, Markers, Modality, Normalisation
from tissueseg.encoders.virtues import VirTues, dual_spec

DIM, HEADS, HIDDEN, PATCH, WIDTH, CHANNELS = 16, 2, 24, 4, 6, 5
NAMES = {
    "virtues": ("patch_encoder", "prior_embedding_encoder"),
    "virtues_dual": ("multiplex_patch_encoder", "protein_encoder"),
}


def published(layout="virtues", pattern="hvhv", seed=0):
    """A checkpoint as published, without prefix; lively enough for every part to matter."""
    rng = torch.Generator().manual_seed(seed)
    tensors = {}

    def linear(name, out, into):
        tensors[f"{name}.weight"] = torch.randn(out, into, generator=rng) * into**-0.5
        tensors[f"{name}.bias"] = torch.randn(out, generator=rng)

    pixels, markers = NAMES[layout]
    linear(pixels, DIM, PATCH**2)
    linear(markers, DIM, WIDTH)
    tensors["patch_summary_token"] = torch.randn(DIM, generator=rng)
    tensors["masked_token"] = torch.randn(DIM, generator=rng)
    if layout == "virtues_dual":
        linear("he_patch_encoder", DIM, 3 * PATCH**2)
        tensors["he_marker"] = torch.randn(DIM, generator=rng)
    else:
        tensors["layer_norm.weight"] = torch.rand(DIM, generator=rng)
        tensors["layer_norm.bias"] = torch.randn(DIM, generator=rng)
    for n, kind in enumerate(pattern):
        lead = f"encoder.{n}.encoder_layer."
        for part in "qkvo":
            linear(f"{lead}multi_head_attention.W_{part}", DIM, DIM)
        linear(f"{lead}feedforward.0", HIDDEN, DIM)
        linear(f"{lead}feedforward.3", DIM, HIDDEN)
        for norm in ("layernorm1", "layernorm2"):
            tensors[f"{lead}{norm}.weight"] = 0.5 + torch.rand(DIM, generator=rng)
            tensors[f"{lead}{norm}.bias"] = torch.randn(DIM, generator=rng)
        if kind == "h":
            table = torch.tensor([[angle(p, k) for k in (0, 1, 0, 1)] for p in range(40)])
            rope = f"{lead}multi_head_attention.pos_emb.rope1d."
            tensors[f"{rope}cos"], tensors[f"{rope}sin"] = table.cos(), table.sin()
    return tensors


def angle(position, k):
    """Inside a half of a head of 8 features, of width 4."""
    return position * 10000 ** (-2 * k / 4)


def write(path, tensors, prefix="", **others):
    save_file({f"{prefix}{name}": t for name, t in tensors.items()} | others, path)
    return str(path)


def data(modality="sp", channels=CHANNELS, mpp=None):
    panel = tuple(Channel(f"c{c}") for c in range(channels)) if "sp" in modality else ()
    return DataSpec(Modality(modality), len(panel) + 3 * ("he" in modality), (), panel, mpp, 16)


def marker_table(channels, width=WIDTH):
    vectors = np.random.default_rng(1).normal(size=(CHANNELS, width)).astype(np.float32)
    return lambda panel: Markers(tuple(channels), vectors[list(channels)])


def make(
    tmp_path,
    layout="virtues",
    modality="sp",
    pattern="hvhv",
    sigma=0.0,
    channels=range(CHANNELS),
    **options,
):
    path = write(tmp_path / "w.safetensors", published(layout, pattern))
    spec = dual_spec(
        options.get("trained_on_he", False),
        name="virtues",
        channels=(512,) * 4,
        patch_px=8,
        normalisation=Normalisation(sp_blur_sigma_px=sigma),
    )
    options = {"levels": (1, 2, 3, 4), "weights": path, "markers": marker_table(channels)} | options
    return VirTues(spec, data(modality), **options)


def random(pattern="hvhv", levels=(1, 2, 3, 4), seed=0, random_init=True, **options):
    spec = EncoderSpec("virtues", ("he", "sp", "he_sp"), (DIM,) * 4, PATCH, random_init=random_init)
    sizes = {"heads": HEADS, "hidden": HIDDEN, "marker_width": WIDTH, "pattern": pattern}
    options = {"data": data(), "weights": None, "markers": marker_table(range(CHANNELS))} | options
    return VirTues(spec, levels=levels, seed=seed, **sizes | options)


def image(batch=2, channels=CHANNELS, size=(12, 20), seed=3):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def naive(tensors, tile, vectors, grid, rgb=None):
    """Levels (D, h, w) of one tile, one sequence and one head at a time."""
    layout = "virtues" if "patch_encoder.weight" in tensors else "virtues_dual"

    def linear(x, name):
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def cut(x, row, column):
        return x[..., row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]

    cells = [(i, j) for i in range(grid[0]) for j in range(grid[1])]
    marks = linear(torch.as_tensor(vectors), NAMES[layout][1])
    rows = [tensors["patch_summary_token"].expand(len(cells), DIM)]
    for channel, mark in zip(tile, marks, strict=True):
        pixels = torch.stack([cut(channel, *cell).reshape(-1) for cell in cells])
        rows.append(linear(pixels, NAMES[layout][0]) + mark)
    if rgb is not None:
        pixels = torch.stack([cut(rgb, *cell).reshape(-1) for cell in cells])
        rows.append(linear(pixels, "he_patch_encoder") + tensors["he_marker"])
    x, levels = torch.stack(rows), []
    while (lead := f"encoder.{len(levels)}.encoder_layer.") + "layernorm1.weight" in tensors:
        rotary = f"{lead}multi_head_attention.pos_emb.rope1d.cos" in tensors

        def norm(y, name, lead=lead):
            weight, bias = tensors[f"{lead}{name}.weight"], tensors[f"{lead}{name}.bias"]
            return F.layer_norm(y, (DIM,), weight, bias)

        y, mixed = norm(x, "layernorm1"), torch.empty_like(x)
        if rotary:
            for c in range(len(x)):
                mixed[c] = naive_attention(y[c], lead, linear, cells)
        else:
            for n in range(len(cells)):
                mixed[:, n] = naive_attention(y[:, n], lead, linear, None)
        x = x + mixed
        hidden = linear(norm(x, "layernorm2"), f"{lead}feedforward.0")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + linear(hidden, f"{lead}feedforward.3")
        levels.append(x[0].T.unflatten(1, grid))
    return levels


def naive_attention(x, lead, linear, cells):
    width, out = DIM // HEADS, []
    q, k, v = (linear(x, f"{lead}multi_head_attention.W_{part}") for part in "qkv")
    for head in range(HEADS):
        own = slice(head * width, (head + 1) * width)
        query, key = q[:, own], k[:, own]
        if cells is not None:
            query, key = turned(query, cells), turned(key, cells)
        out.append((query @ key.T / math.sqrt(width)).softmax(-1) @ v[:, own])
    return linear(torch.cat(out, 1), f"{lead}multi_head_attention.W_o")


def turned(x, cells):
    """The published rotation of heads of 8 features: rows, then columns, each as [x₁, x₂]."""
    out = x.clone()
    for n, cell in enumerate(cells):
        for half, position in enumerate(cell):
            for k in range(2):
                a, b = half * 4 + k, half * 4 + k + 2
                c, s = math.cos(angle(position, k)), math.sin(angle(position, k))
                out[n, a] = x[n, a] * c - x[n, b] * s
                out[n, b] = x[n, b] * c + x[n, a] * s
    return out


def assert_close(found, wanted, atol=2e-5):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)
