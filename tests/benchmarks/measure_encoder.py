"""One encoder of published size in a process of its own: parameters, tiles/s, peak memory, share of peak.

    python tests/benchmarks/measure_encoder.py '{"encoder": "virtues", "channels": 16}'

Random weights: speed does not ask what was learnt. The matmul rate is measured in the same process.
Torch counts the operations; on a CPU it leaves fused attention out, so shares there are a little low.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hydra
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from tissueseg.config import CONFIG_DIR
from tissueseg.contracts import Channel, DataSpec, Modality, TissueClass
from tissueseg.features import build_encoder

CLASSES = (TissueClass(0, "background", "#000000"),)


def build(encoder: str, channels: int, folder: Path, **options: object) -> torch.nn.Module:
    """The configured encoder at its own scale, random."""
    panel = tuple(Channel(f"c{i}", f"Q{i:05d}") for i in range(channels))
    table = folder / "table.safetensors"
    save_file({str(c.uniprot): torch.randn(640) for c in panel}, table)
    overrides = [f"encoder={encoder}", f"markers.table={table}", "encoder.random_init=true"]
    overrides += [f"encoder.{key}={value}" for key, value in options.items()]
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose("train", overrides)
    is_sp = encoder.startswith("virtues")
    modality, count = (Modality.SP, channels) if is_sp else (Modality.HE, 3)
    own = config.encoder.mpp
    data = DataSpec(modality, count, CLASSES, panel if is_sp else (), own, 128)
    return build_encoder(config, data)


def seconds(step: Callable[[], object], device: str, rounds: int) -> float:
    """The fastest of some rounds, after one to warm up."""
    best = float("inf")
    for _ in range(rounds + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start) if _ else best
    return best


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a large square product."""
    side = 16384 if device == "cuda" else 2048
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / seconds(lambda: a @ a, device, 5)


def peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(
    encoder: str,
    channels: int = 16,
    dtype: str = "float32",
    tile_px: int = 128,
    batch: int = 1,
    rounds: int = 2,
    device: str = "cpu",
    threads: int = 2,
    **options: object,
) -> dict[str, float]:
    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    with tempfile.TemporaryDirectory() as folder:
        network = build(encoder, channels, Path(folder), **options).to(device)
    image = torch.randn(batch, network.data.image_channels, tile_px, tile_px, device=device)

    def step() -> object:
        with torch.autocast(device, kind, enabled=kind != torch.float32):
            return network(image)

    with FlopCounterMode(display=False) as counter:
        step()
    took = seconds(step, device, rounds)
    rate = matmul_rate(device, kind)
    flop = counter.get_total_flops() / batch
    return {
        "parameters_m": sum(p.numel() for p in network.parameters()) / 1e6,
        "gflop_a_tile": flop / 1e9,
        "tiles_per_s": batch / took,
        "share_of_matmul": flop * batch / took / rate,
        "matmul_gflops": rate / 1e9,
        "peak_gib": peak_bytes(device) / 2**30,
    }


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
