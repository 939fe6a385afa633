"""Our ViT and SAM encoders against outputs of the published networks' tiny instances."""

import pytest
import torch
from stores import data_spec

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.sam import SAMEncoder
from tissueseg.encoders.vit import ViTEncoder

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
LEVELS = (1, 2, 3, 4)


def spec(name):
    return EncoderSpec(name, ("he",), (48,) * 4, 16)


def published_vit(levels, size):
    side = size // 16
    patches = (level[:, 1:] for level in levels)  # token 0 is the class token
    return [p.unflatten(1, (side, side)).permute(0, 3, 1, 2) for p in patches]


def largest_error(encoder, stored, size, expected):
    found = encoder(stored[f"image_{size}"]).levels
    assert [a.shape for a in found] == [b.shape for b in expected]
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


def stored_levels(stored, size):
    return [stored[f"size_{size}.layer_{n}"] for n in LEVELS]


@pytest.mark.parametrize(
    ("name", "positions", "size"),
    [
        ("cellvit_vit", "dino", 128),
        ("cellvit_vit", "dino", 224),
        ("cellvit_vit", "dino", 256),
        ("cellvit_uni", "timm", 224),
        ("cellvit_uni", "timm", 256),
    ],
)
def test_a_vits_levels_are_the_published_ones(golden, name, positions, size):
    stored = golden(f"{name}_io")
    weights = str(golden.folder / f"{name}.safetensors")
    encoder = ViTEncoder(spec(name), data_spec("he"), weights, LEVELS, 4, positions)
    expected = published_vit(stored_levels(stored, size), size)
    error = largest_error(encoder, stored, size, expected)
    golden.assert_error(f"{name}, {size} px, levels 1 to 4", error, TOLERANCE)


@pytest.mark.parametrize("size", [256, 512])
def test_sams_levels_are_the_published_ones(golden, size):
    stored = golden("cellvit_sam_io")
    weights = str(golden.folder / "cellvit_sam.safetensors")
    encoder = SAMEncoder(spec("cellvit_sam"), data_spec("he"), weights, LEVELS)
    expected = [level.permute(0, 3, 1, 2) for level in stored_levels(stored, size)]
    error = largest_error(encoder, stored, size, expected)
    golden.assert_error(f"cellvit_sam, {size} px, levels 1 to 4", error, TOLERANCE)


def test_the_two_ways_to_resample_positions_are_told_apart(golden):
    stored = golden("cellvit_uni_io")
    weights = str(golden.folder / "cellvit_uni.safetensors")
    encoder = ViTEncoder(spec("cellvit_uni"), data_spec("he"), weights, LEVELS, 4, "dino")
    expected = published_vit(stored_levels(stored, 256), 256)
    error = largest_error(encoder, stored, 256, expected)
    assert error > 10 * TOLERANCE


def test_every_published_parameter_is_accounted_for(golden):
    for name in ("cellvit_vit", "cellvit_uni", "cellvit_sam"):
        weights = str(golden.folder / f"{name}.safetensors")
        if name == "cellvit_sam":
            encoder = SAMEncoder(spec(name), data_spec("he"), weights, LEVELS)
        else:
            encoder = ViTEncoder(spec(name), data_spec("he"), weights, LEVELS, 4, "timm")
        found = encoder.spec.accounting
        assert found.missing == 0
        assert found.loaded + found.ignored == sum(t.numel() for t in golden(name).values())
        assert len(found.reasons) == 1
        assert ("neck" if name == "cellvit_sam" else "norm") in found.reasons[0]


def test_autocast_stays_close_to_float32(golden):
    stored = golden("cellvit_sam_io")
    weights = str(golden.folder / "cellvit_sam.safetensors")
    encoder = SAMEncoder(spec("cellvit_sam"), data_spec("he"), weights, LEVELS)
    exact = encoder(stored["image_256"]).levels[3]
    with torch.autocast("cpu", torch.bfloat16):
        close = encoder(stored["image_256"]).levels[3]
    error = ((close - exact).norm() / exact.norm()).item()
    assert error < 0.02
