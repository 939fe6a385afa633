"""Shapes and counts of CellViT-256 as published, so that its decoder weights can be loaded."""

import pytest
import torch

from tissueseg.contracts import EncoderSpec
from tissueseg.decoders.published import our_name
from tissueseg.decoders.skip import SkipDecoder

VIT_S16 = 21_665_664  # parameters of HIPT's ViT-S/16 without classifier
TISSUE_HEAD = 384 * 19 + 19
MISSING_BINARY_LOGIT = 64 + 1  # published: 2 softmax logits; ours: 1 for the sigmoid


@pytest.fixture(scope="module")
def cellvit_256():
    spec = EncoderSpec("cellvit_256", ("he",), (384,) * 4, 16)
    heads = {"classes": {}, "hv": {}, "foreground": {}}
    with torch.device("meta"):
        return SkipDecoder(spec, 3, 6, heads, share="branches")


def test_parameters_add_up_to_the_published_count(cellvit_256):
    decoder = sum(p.numel() for p in cellvit_256.parameters())
    assert decoder == 25_077_305
    total = decoder + MISSING_BINARY_LOGIT + VIT_S16 + TISSUE_HEAD
    assert round(total / 1e6, 2) == 46.75


@pytest.mark.parametrize(
    ("key", "shape"),
    {
        "decoder0.0.block.0.weight": (32, 3, 3, 3),
        "decoder0.1.block.0.weight": (64, 32, 3, 3),
        "decoder1.0.block.0.weight": (384, 256, 2, 2),
        "decoder1.1.block.0.weight": (256, 128, 2, 2),
        "decoder1.2.block.1.weight": (128, 128, 3, 3),
        "decoder2.0.block.0.weight": (384, 256, 2, 2),
        "decoder2.1.block.1.weight": (256, 256, 3, 3),
        "decoder3.0.block.0.weight": (384, 312, 2, 2),
        "decoder3.0.block.2.running_mean": (312,),
        "branches.classes.bottleneck_upsampler.weight": (384, 312, 2, 2),
        "branches.classes.decoder3_upsampler.0.block.0.weight": (312, 624, 3, 3),
        "branches.classes.decoder3_upsampler.2.block.0.weight": (312, 312, 3, 3),
        "branches.classes.decoder3_upsampler.3.weight": (312, 256, 2, 2),
        "branches.classes.decoder2_upsampler.0.block.0.weight": (256, 512, 3, 3),
        "branches.classes.decoder2_upsampler.2.weight": (256, 128, 2, 2),
        "branches.classes.decoder1_upsampler.0.block.0.weight": (128, 256, 3, 3),
        "branches.classes.decoder1_upsampler.2.weight": (128, 64, 2, 2),
        "decoder0_header.classes.0.block.0.weight": (64, 128, 3, 3),
        "decoder0_header.classes.1.block.0.weight": (64, 64, 3, 3),
        "decoder0_header.classes.2.weight": (6, 64, 1, 1),
        "decoder0_header.hv.2.weight": (2, 64, 1, 1),
        "decoder0_header.foreground.2.weight": (1, 64, 1, 1),
    }.items(),
)
def test_layers_have_the_published_shapes(cellvit_256, key, shape):
    assert tuple(cellvit_256.state_dict()[key].shape) == shape


@pytest.mark.parametrize(
    ("published", "ours"),
    {
        "decoder2.1.block.1.bias": "decoder2.1.block.1.bias",
        "nuclei_type_maps_decoder.decoder0_header.2.bias": "decoder0_header.classes.2.bias",
        "nuclei_type_map_decoder.decoder0_header.2.bias": "decoder0_header.classes.2.bias",
        "hv_map_decoder.bottleneck_upsampler.bias": "branches.hv.bottleneck_upsampler.bias",
        "nuclei_binary_map_decoder.decoder3_upsampler.0.block.1.running_var": (
            "branches.foreground.decoder3_upsampler.0.block.1.running_var"
        ),
    }.items(),
)
def test_published_names_are_names_of_ours(cellvit_256, published, ours):
    assert our_name(published) == ours
    assert ours in cellvit_256.state_dict()


def test_other_networks_names_are_not():
    assert our_name("encoder.decoder0.weight") is None
    assert our_name("decoder.weight") is None


def test_wide_encoders_get_the_wide_layout():
    spec = EncoderSpec("cellvit_sam_h", ("he",), (1280,) * 4, 16)
    with torch.device("meta"):
        state = SkipDecoder(spec, 3, 6, {"classes": {}}).state_dict()
    assert state["decoder1.1.block.0.weight"].shape == (512, 256, 2, 2)
    assert state["branches.trunk.bottleneck_upsampler.weight"].shape == (1280, 512, 2, 2)


def test_stride_8_upsamples_once_less_in_every_path():
    spec = EncoderSpec("virtues", ("sp",), (512,) * 4, 8)
    with torch.device("meta"):
        state = SkipDecoder(spec, 3, 6, {"classes": {}}).state_dict()
    assert state["branches.trunk.bottleneck_upsampler.weight"].shape == (512, 512, 1, 1)
    assert state["decoder1.0.block.0.weight"].shape == (512, 512, 3, 3)
    assert state["decoder1.1.block.0.weight"].shape == (512, 256, 2, 2)
    assert state["decoder3.0.block.0.weight"].shape == (512, 512, 3, 3)
