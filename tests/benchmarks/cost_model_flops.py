"""Operations of a tile through encoders of published size and a decoder of full width, without computing.

Tensors are fakes: they have shapes and no numbers, so a network of 636 million parameters is counted in a
second. Attention is counted as the matrix products it stands for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from stores import compose
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tissueseg.contracts import Channel, DataSpec, Modality, TissueClass
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.encoders.base import Encoder
from tissueseg.features import build_encoder

CLASSES = tuple(TissueClass(i, f"class {i}", "#000000") for i in range(10))


class Work(NamedTuple):
    """Floating-point operations of one tile."""

    encode: float
    decode: float  # forward
    train: float  # forward and backward; the encoder is frozen
    stride_px: int  # of the tissue: what a token covers


def work(encoder: str, tile_px: int, channels: int = 16, *options: str) -> Work:
    """Count one tile of 0.5 µm/px.

    Args:
        encoder: as `encoder=` has it.
        tile_px: of the tissue; the encoder resizes it to its own scale.
        channels: of SP.
        options: words of the command line.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    network = built(encoder, tile_px, channels, options, mode)
    image_channels, heads = network.data.image_channels, {"classes": {"depth": 2}}
    decoder = SkipDecoder(network.spec, image_channels, len(CLASSES), heads, share="trunk")
    with mode, sdpa_kernel(SDPBackend.MATH):  # the other kinds are not counted on a CPU
        image = torch.empty(1, image_channels, tile_px, tile_px)
        given = network(image)
        return Work(
            counted(lambda: network(image)),
            counted(lambda: decoder(given)),
            counted(lambda: decoder(given)["classes"].square().mean().backward()),
            network.stride_px,
        )


def counted(job: Callable[[], object]) -> float:
    """Operations of a job, a multiplication and an addition being two."""
    with FlopCounterMode(display=False) as counter:
        job()
    return float(counter.get_total_flops())


def built(
    encoder: str,
    tile_px: int,
    channels: int,
    options: Sequence[str],
    mode: FakeTensorMode | None = None,
) -> Encoder:
    """The configured encoder with random weights; those of large ones are fakes if there is a mode."""
    is_sp = encoder.startswith("virtues")
    panel = tuple(Channel(f"c{i}", f"Q{i:05d}") for i in range(channels)) if is_sp else ()
    modality = Modality.SP if is_sp else Modality.HE
    data = DataSpec(modality, channels if is_sp else 3, CLASSES, panel, 0.5, tile_px)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.safetensors"
        save_file({f"Q{i:05d}": torch.zeros(640) for i in range(channels)}, table)
        words = (f"encoder={encoder}", f"modality={modality.value}", f"markers.table={table}")
        config = compose(*words, "encoder.random_init=true", *options)
        if is_sp or mode is None:
            return build_encoder(config, data)
        with mode, patch.object(Encoder, "digest", lambda _: "0" * 64):  # of numbers there are none
            return build_encoder(config, data)
