"""VirTues at its released size on a CPU, against a loop over its sequences and the matmul rate.

`pytest -m benchmark -s tests/benchmarks/test_virtues.py` prints a table; both networks have the same
weights. Memory is the peak resident size of a process of its own, less what it held before encoding.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tissueseg.contracts import Channel, DataSpec, EncoderSpec, Markers, Modality
from tissueseg.encoders.virtues import VirTues, patches
from tissueseg.encoders.virtues_layers import Block, rotate, turns

pytestmark = pytest.mark.benchmark

DIM, HIDDEN, HEADS, DEPTH, CHANNELS, SIDE_PX, PATCH, THREADS = 512, 1024, 8, 16, 16, 128, 8, 2
GRID = (SIDE_PX // PATCH,) * 2
CELLS, SLOTS = GRID[0] * GRID[1], CHANNELS + 1


def encoder() -> VirTues:
    vectors = np.random.default_rng(0).normal(size=(CHANNELS, 640)).astype(np.float32)
    panel = tuple(Channel(f"c{i}") for i in range(CHANNELS))
    spec = EncoderSpec("virtues", (Modality.SP,), (DIM,) * 4, PATCH, 1.0, random_init=True)
    data = DataSpec(Modality.SP, CHANNELS, (), panel, 1.0, SIDE_PX)
    return VirTues(spec, data, None, lambda _: Markers(tuple(range(CHANNELS)), vectors))


def image() -> Tensor:
    return torch.randn(1, CHANNELS, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(0))


def operations() -> tuple[int, int]:
    """Floating-point operations of a tile: what the whole network takes, and what ours computes."""
    tokens = SLOTS * CELLS
    linear = 8 * DIM**2 + 4 * DIM * HIDDEN  # per token: q, k, v, o and both of the feed-forward
    across = {"h": 4 * CELLS * DIM, "v": 4 * SLOTS * DIM}
    whole = tokens * (DEPTH * linear + DEPTH // 2 * (across["h"] + across["v"]))
    spared = (tokens - CELLS) * (linear - 4 * DIM**2 + across["v"])  # last block: keys and values
    return whole, whole - spared


def ragged(network: VirTues, tile: Tensor) -> Tensor:
    """One attention call for each channel, then one for each cell; the last summaries (N, D)."""
    turn = turns(GRID, DIM // HEADS, tile.device, tile.dtype)
    marks = network.marker(network.vectors)[:, None]
    x = network.pixels(patches(tile, PATCH)[0]) + marks
    x = torch.cat((network.summary.expand(1, CELLS, DIM), x))
    for block in network.blocks:
        if block.kind == "h":
            x = torch.stack([_sequence(block, channel, turn) for channel in x])
        else:
            x = torch.stack([_sequence(block, cell, None) for cell in x.unbind(1)], 1)
    return x[0]


def _sequence(block: Block, x: Tensor, turn) -> Tensor:
    parts = block.attention.qkv(block.norm1(x)).unflatten(-1, (HEADS, 3, -1))
    query, key, value = parts.unbind(-2)
    if turn is not None:
        query, key = rotate(parts[None, None, ..., :2, :], turn)[0, 0].unbind(-2)
    heads = (part.transpose(0, 1)[None] for part in (query, key, value))
    mixed = F.scaled_dot_product_attention(*heads)[0].transpose(0, 1).flatten(1)
    x = x + block.attention.out(mixed)
    return x + block.down(F.gelu(block.up(block.norm2(x))))


def ours(network: VirTues, tile: Tensor) -> Tensor:
    return network(tile).levels[-1][0].flatten(1).T


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The best of some rounds, for others may use the machine."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def matmul_rate() -> float:
    """FLOP/s of the network's own projections, linear layers over all tokens of a tile."""
    x, weight = torch.randn(SLOTS * CELLS, DIM), torch.randn(3 * DIM, DIM)
    return 2 * x.numel() * len(weight) / seconds(lambda: F.linear(x, weight), 20)


def peak_mb(way: Callable[[VirTues, Tensor], Tensor]) -> float:
    """Memory that encoding one tile adds to a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown, (way.__name__,))


def _grown(way: str) -> float:
    torch.set_num_threads(THREADS)
    network, tile = encoder(), image()
    before = _peak_kb()
    with torch.no_grad():
        {"ours": ours, "ragged": ragged}[way](network, tile)
    return (_peak_kb() - before) / 1024


def _peak_kb() -> int:
    """Linux's VmHWM; getrusage would hand down the parent's peak."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def test_one_tile_of_16_channels_against_a_loop_over_sequences() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        network, tile = encoder(), image()
        with torch.no_grad():
            torch.testing.assert_close(
                ours(network, tile), ragged(network, tile), atol=1e-3, rtol=1e-3
            )
            rates, fast, slow = [], [], []
            for _ in range(3):  # taking turns, so that a busy machine slows all alike
                rates.append(matmul_rate())
                fast.append(seconds(lambda: ours(network, tile), 2))
                slow.append(seconds(lambda: ragged(network, tile), 1))
    finally:
        torch.set_num_threads(threads)
    whole, computed = operations()
    rate, ratio, share = max(rates), min(slow) / min(fast), computed / min(fast) / max(rates)
    print(f"\n{whole / 1e9:.1f} GFLOP a tile, {computed / 1e9:.1f} of them computed by ours")
    print(f"matmul rate {rate / 1e9:.0f} GFLOP/s on {THREADS} threads, float32")
    print("            tiles/s  of matmul rate  peak MB")
    print(f"ours        {1 / min(fast):7.3f}  {share:14.0%}  {peak_mb(ours):7.0f}")
    looped = whole / min(slow) / rate
    print(f"ragged loop {1 / min(slow):7.3f}  {looped:14.0%}  {peak_mb(ragged):7.0f}")
    print(f"ratio {ratio:.2f}")
