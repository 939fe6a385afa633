"""A decoder's training step: skips computed once against once per head, memory layout and compilation.

`pytest -m benchmark tests/benchmarks/test_decoders.py -s` prints the tables. Rows take turns in one
process. BATCH=2 before it is quicker. The published way (Hörst et al. 2024) runs the skip paths anew for
each head.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tissueseg.contracts import EncoderSpec, Features, Outputs
from tissueseg.decoders.skip import SkipDecoder

pytestmark = pytest.mark.benchmark

HEADS = {"classes": {"depth": 2}, "foreground": {"depth": 2}, "hv": {"depth": 2}}
TILE_PX, WIDTH, IMAGE_CHANNELS, N_CLASSES = 120, 512, 19, 10
BATCH, ROUNDS = int(os.environ.get("BATCH", "4")), int(os.environ.get("ROUNDS", "3"))
THREADS = len(os.sched_getaffinity(0))


def spec() -> EncoderSpec:
    return EncoderSpec("wide", ("he", "sp", "he_sp"), (WIDTH,) * 4, 8, stride_px=8)


def decoder(heads=HEADS, share="branches") -> SkipDecoder:
    torch.manual_seed(0)
    return SkipDecoder(spec(), IMAGE_CHANNELS, N_CLASSES, heads, share=share, dropout=0.0)


class Recomputed(nn.Module):
    """A network of the same weights that runs all skip paths once for every head."""

    def __init__(self, whole: SkipDecoder) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: decoder({name: HEADS[name]}) for name in HEADS})
        for part in self.parts.values():
            part.load_state_dict(whole.state_dict(), strict=False)

    def forward(self, features: Features) -> Outputs:
        return {name: part(features)[name] for name, part in self.parts.items()}


def features(batch: int, device: str = "cpu", layout=torch.contiguous_format) -> Features:
    generator = torch.Generator(device).manual_seed(0)

    def drawn(channels: int, side: int) -> Tensor:
        shape = (batch, channels, side, side)
        drawn = torch.randn(shape, generator=generator, device=device)
        return drawn.contiguous(memory_format=layout)

    levels = tuple(drawn(WIDTH, TILE_PX // 8) for _ in range(4))
    return Features(levels, drawn(IMAGE_CHANNELS, TILE_PX))


def step(network: nn.Module, given: Features, dtype: torch.dtype | None) -> Callable[[], None]:
    """Forward and backward of all heads."""
    kind = given.image.device.type

    def run() -> None:
        network.zero_grad(set_to_none=True)
        with torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            outputs = network(given)
            loss = torch.stack([logits.float().square().mean() for logits in outputs.values()])
        loss.sum().backward()
        if kind == "cuda":
            torch.cuda.synchronize()

    return run


def timed(rows: dict[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each row; they take turns, so that a busy machine slows all alike."""
    for run in rows.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(found) for name, found in seconds.items()}


def show(title: str, found: dict[str, float]) -> None:
    first = next(iter(found.values()))
    print(f"\n{title}")
    for name, seconds in found.items():
        print(f"  {name:<44} {1000 * seconds:9.1f} ms   {first / seconds:5.2f} x")


@pytest.fixture
def all_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_three_heads_against_skips_recomputed_for_each(dtype, all_threads) -> None:
    whole = decoder()
    recomputed = Recomputed(whole)
    given = features(BATCH)
    with torch.no_grad():
        found, wanted = whole.eval()(given), recomputed.eval()(given)
    for name, logits in wanted.items():
        assert (found[name] - logits).abs().max() <= 1e-6 * max(1.0, float(logits.abs().max()))
    whole.train(), recomputed.train()
    last = decoder().to(memory_format=torch.channels_last)
    laid = features(BATCH, layout=torch.channels_last)
    rows = {
        "skips once per head (published)": step(recomputed, given, dtype),
        "skips once": step(whole, given, dtype),
        "skips once, channels last (ours)": step(last, laid, dtype),
    }
    show(f"three heads, batch {BATCH}, {TILE_PX} px, {dtype or torch.float32}", timed(rows))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's compiler on itself
@pytest.mark.parametrize("share", ["trunk", "branches"])
def test_compiled_against_not(share, all_threads) -> None:
    last = decoder(share=share).to(memory_format=torch.channels_last)
    laid = features(BATCH, layout=torch.channels_last)
    compiled = torch.compile(last)
    with torch.no_grad():
        found, wanted = compiled(laid), last(laid)
    for name, logits in wanted.items():
        torch.testing.assert_close(found[name], logits, atol=1e-3, rtol=1e-3)
    rows = {"as it is": step(last, laid, None), "compiled": step(compiled, laid, None)}
    show(f"three heads, {share}, batch {BATCH}, float32, channels last", timed(rows))


def test_what_slots_add_to_a_step(all_threads) -> None:
    """At width 1, class head alone, beside the slots of the study."""
    from stores import compose

    from tissueseg.building import build

    rows = {}
    for name in ("baseline", "boundary_att", "masked_attention", "global_context"):
        config = compose("setting=orion", f"decoder={name}", "store.path=none")
        torch.manual_seed(0)
        network = build(config.decoder)(
            spec=spec(), image_channels=IMAGE_CHANNELS, n_classes=N_CLASSES, dropout=0.0
        ).to(memory_format=torch.channels_last)
        rows[name] = step(network, features(BATCH, layout=torch.channels_last), None)
    found = timed(rows)
    show(f"decoders, batch {BATCH}, {TILE_PX} px, float32", found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("share", ["trunk", "branches"])
@pytest.mark.parametrize("compiled", [False, True])
def test_step_and_share_of_peak_on_a_gpu(share, compiled) -> None:
    """Batch 128, bfloat16; the peak is that of a square matmul of 8192 measured beside it."""
    for heads in ({"classes": HEADS["classes"]}, HEADS):
        network = decoder(heads, share).cuda().to(memory_format=torch.channels_last)
        given = features(128, "cuda", torch.channels_last)
        counter = FlopCounterMode(display=False)
        with counter:
            step(network, given, torch.bfloat16)()
        flop = counter.get_total_flops()
        run = step(torch.compile(network) if compiled else network, given, torch.bfloat16)
        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)

        def product(a: Tensor = a) -> None:
            a @ a
            torch.cuda.synchronize()

        found = timed({"step": run, "matmul": product}, rounds=10)
        peak, reached = 2 * 8192**3 / found["matmul"], flop / found["step"]
        print(
            f"\n{len(heads)} heads, {share}{', compiled' if compiled else ''}: "
            f"{1000 * found['step']:.1f} ms, {reached / 1e12:.0f} TFLOP/s, {reached / peak:.0%} of matmul"
        )
