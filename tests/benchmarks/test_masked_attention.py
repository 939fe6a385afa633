"""Masked attention on key cells, windows and packed pixels: time, peak memory, a decoder's step with it.

`pytest -m benchmark tests/benchmarks/test_masked_attention.py -s` prints the tables; BATCH=4 before it is
quicker. Times are processor seconds of one thread, which other programs disturb less than the clock's;
every row is a process of its own, because peak memory is a process's. The package has the cells;
`WindowedAttention` and `PackedAttention`, which were not kept, are the baselines here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tissueseg.contracts import EncoderSpec, Features, Modality
from tissueseg.decoders.attention import as_grid, as_tokens, attend, fitting_heads
from tissueseg.decoders.masked_attention import MaskedAttention, admissible
from tissueseg.decoders.skip import SkipDecoder

pytestmark = pytest.mark.benchmark

TILE_PX, CHANNELS, BATCH = 120, 64, int(os.environ.get("BATCH", "16"))


class WindowedAttention(nn.Module):
    """Pixels attend to the foreground of their own window, or to all of it where that is empty.

    Tiles that are no multiple of the window are padded; nobody attends to padding.
    """

    def __init__(self, channels: int, heads: int = 4, window: int = 8) -> None:
        super().__init__()
        self.heads, self.window = fitting_heads(channels, heads), window
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask_logits: Tensor) -> Tensor:
        """Features (B, C, H, W) under logits (B, 1, h, w) to (B, C, H, W)."""
        height, width = x.shape[-2:]
        tokens = self.norm(self.windows(x.permute(0, 2, 3, 1)))
        mask = admissible(mask_logits, x).permute(0, 2, 3, 1)
        inside = self.windows(torch.ones_like(mask[:1]))[:, :, 0].repeat(len(x), 1)
        seen = self.windows(mask)[:, :, 0]
        seen = torch.where((seen == 0).all(1, keepdim=True), inside, seen)
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        bias = seen.log().to(query.dtype)[:, None, None]
        mixed = self.out(attend(query, key, value, self.heads, bias))
        down, across = -(-height // self.window), -(-width // self.window)
        grid = mixed.unflatten(1, (self.window, self.window)).unflatten(0, (-1, down, across))
        grid = grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]
        return x + grid.permute(0, 3, 1, 2)

    def windows(self, image: Tensor) -> Tensor:
        """(B, H, W, c) to (B · windows, window², c), padded with zeros."""
        side = self.window
        beyond = [-size % side for size in image.shape[1:3]]
        padded = F.pad(image, (0, 0, 0, beyond[1], 0, beyond[0]))
        cut = padded.unflatten(2, (-1, side)).unflatten(1, (-1, side))
        return cut.transpose(2, 3).flatten(3, 4).flatten(0, 2)


class PackedAttention(nn.Module):
    """Pixels attend to single pixels of the tile's foreground: at most so many, evenly spread over it.

    What does not fit is not seen; with less foreground than that, places stay empty.
    """

    def __init__(self, channels: int, heads: int = 4, keys: int = 256) -> None:
        super().__init__()
        self.heads, self.keys = fitting_heads(channels, heads), keys
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask_logits: Tensor) -> Tensor:
        """Features (B, C, H, W) under logits (B, 1, h, w) to (B, C, H, W)."""
        tokens = self.norm(as_tokens(x))
        place, there = self.packed(admissible(mask_logits, x).flatten(1))
        chosen = tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[-1]))
        key, value = self.key_value(chosen).chunk(2, dim=-1)
        query = self.query(tokens)
        bias = there.log().to(query.dtype)[:, None, None]
        return x + as_grid(self.out(attend(query, key, value, self.heads, bias)), x)

    def packed(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Of (B, N) pixels, 0 or 1: (B, keys) which are taken, and whether there are as many, 0 or 1."""
        ranks = seen.cumsum(1)
        count = ranks[:, -1:]
        nth = torch.arange(self.keys, device=seen.device)
        spread = torch.where(count > self.keys, (nth * count / self.keys).floor(), nth.float())
        place = torch.searchsorted(ranks, spread + 1).clamp(max=seen.shape[1] - 1)
        return place, (spread < count).float()


FORMS: dict[str, Callable[..., nn.Module]] = {
    "cells": partial(MaskedAttention, CHANNELS),
    "windows": partial(WindowedAttention, CHANNELS),
    "packed": partial(PackedAttention, CHANNELS),
}

ROWS: list[dict[str, Any]] = [
    {"form": "cells", "heads": 4, "cells": 16},
    {"form": "cells", "heads": 8, "cells": 16},
    {"form": "cells", "heads": 4, "cells": 8},
    {"form": "windows", "heads": 4, "window": 8},
    {"form": "windows", "heads": 8, "window": 8},
    {"form": "windows", "heads": 4, "window": 16},
    {"form": "packed", "heads": 4, "keys": 256},
    {"form": "packed", "heads": 4, "keys": 1024},
]


GUIDED: dict[str, dict[str, int]] = {"classes": {}, "foreground_stride4": {"depth": 1}}
"""Heads of a decoder with the slot: its own one besides."""


def channels_last(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def fastest(step: Callable[[], None], rounds: int) -> float:
    """Processor seconds of the fastest of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
    return min(taken)


def own_mib(field: str) -> float:
    """VmRSS, what this process holds now, or VmHWM, the most it ever did."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def slot_cost(
    form: str, batch: int, dtype: str, tile_px: int = TILE_PX, **options: int
) -> dict[str, float]:
    """One forward and backward pass of the slot alone: seconds, and MiB on top of its input."""
    kind = getattr(torch, dtype)
    slot = FORMS[form](**options)

    def step(x: Tensor, mask: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            slot(x, mask).sum().backward()
        x.grad = None

    def inputs(size: int, side: int) -> tuple[Tensor, Tensor]:
        x = channels_last(size, CHANNELS, side, side).to(kind).requires_grad_()
        return x, torch.randn(size, 1, side // 4, side // 4)

    step(*inputs(1, 16))  # code and threads that the first call brings in
    x, mask = inputs(batch, tile_px)
    before = own_mib("VmRSS")
    step(x, mask)
    peak = own_mib("VmHWM") - before
    return {"peak_mib": peak, "seconds": fastest(lambda: step(x, mask), 2)}


def decoder_steps(batch: int, dtype: str, rounds: int = 3) -> dict[str, float]:
    """One forward and backward pass of a decoder, without and with the slot and its coarse head.

    By turns, so that whatever else the machine does falls on both.
    """
    side = TILE_PX // 8
    levels = tuple(channels_last(batch, 512, side, side) for _ in range(4))
    features = Features(levels, channels_last(batch, 16, TILE_PX, TILE_PX))

    def step(network: nn.Module) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            found = network(features)
        torch.stack([logits.float().square().mean() for logits in found.values()]).sum().backward()

    without, slotted = decoder({"classes": {}}), decoder(GUIDED, MaskedAttention)
    taken: dict[str, list[float]] = {"without": [], "slotted": []}
    for _ in range(rounds):
        taken["without"].append(fastest(partial(step, without), 1))
        taken["slotted"].append(fastest(partial(step, slotted), 1))
    return {name: min(seconds) for name, seconds in taken.items()}


def decoder(
    heads: dict[str, dict[str, int]], refine: Callable[[int], nn.Module] | None = None
) -> nn.Module:
    """At the published widths."""
    spec = EncoderSpec("random", (Modality.SP,), (512,) * 4, 8)
    network: nn.Module = SkipDecoder(spec, 16, 6, heads, refine=refine)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def measured(what: str, **settings: Any) -> dict[str, float]:
    """Run one of the functions above in a new process."""
    command = [sys.executable, __file__, json.dumps({"what": what} | settings)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def dense_mib(heads: int, dtype: str) -> float:
    """What the scores alone take when every pixel attends to every pixel, N × N for each head."""
    width = getattr(torch, dtype).itemsize
    return BATCH * heads * TILE_PX**4 * width / 2**20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", ROWS, ids=lambda r: "-".join(map(str, r.values())))
def test_the_slot_stays_far_below_dense_attention(row: dict[str, Any], dtype: str) -> None:
    found = measured("slot_cost", batch=BATCH, dtype=dtype, **row)
    dense, one_head = dense_mib(row["heads"], dtype), dense_mib(1, dtype)
    print(
        f"\n{' '.join(f'{k} {v}' for k, v in row.items()):<32} {dtype:<9} B {BATCH}  "
        f"{found['seconds']:6.2f} s  {found['peak_mib']:6.0f} MiB = 1/{dense / found['peak_mib']:.0f} "
        f"of dense ({dense:,.0f} MiB), 1/{one_head / found['peak_mib']:.0f} of one head's",
        end="",
    )
    assert found["peak_mib"] <= dense / 20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_of_the_decoder_with_and_without(dtype: str) -> None:
    found = measured("decoder_steps", batch=BATCH, dtype=dtype)
    without, slotted = found["without"], found["slotted"]
    print(
        f"\ndecoder {dtype:<9} B {BATCH}  baseline {without:.2f} s, with the slot {slotted:.2f} s "
        f"= {slotted / without:.2f} ×",
        end="",
    )
    assert min(without, slotted) > 0


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    run = {"slot_cost": slot_cost, "decoder_steps": decoder_steps}[settings.pop("what")]
    print(json.dumps(run(**settings)))
