"""The CellViT family in configs/encoder, shrunk but otherwise built as a run builds it."""

import pytest
import torch
from stores import compose, data_spec

from tissueseg.encoders.layers import LayerScale, SwiGLU
from tissueseg.features import build_encoder


def make(name, levels, data_mpp=0.25):
    config = compose(
        "setting=demo",
        f"encoder={name}",
        "encoder.random_init=true",
        "encoder.spec.channels=[48,48,48,48]",
        f"encoder.levels={levels}",
    )
    return build_encoder(config, data_spec("he", data_mpp))


@pytest.mark.parametrize(
    "name", ["cellvit_256", "cellvit_uni", "cellvit_virchow", "cellvit_virchow2"]
)
def test_vits_have_the_parts_of_the_networks_they_name(name):
    encoder = make(name, "[1,2,3,4]")
    kinds = {type(m) for m in encoder.modules()}
    assert (SwiGLU in kinds) == ("virchow" in name)
    assert (LayerScale in kinds) == (name != "cellvit_256")
    assert (encoder.reg_token is not None) == (name == "cellvit_virchow2")
    levels = encoder(torch.randn(1, 3, 128, 128)).levels
    assert [level.shape for level in levels] == [(1, 48, 8, 8)] * 4


@pytest.mark.parametrize("name", ["cellvit_sam_b", "cellvit_sam_l", "cellvit_sam_h"])
def test_sams_attend_to_the_whole_grid_where_features_are_taken(name):
    encoder = make(name, "[2,4,6,8]", data_mpp=0.5)
    assert [block.attn.window for block in encoder.blocks] == [14, None] * 4
    assert encoder.blocks[1].attn.rel_pos_h.shape[0] == 127
    levels = encoder(torch.randn(1, 3, 128, 128)).levels
    assert [level.shape for level in levels] == [(1, 48, 16, 16)] * 4
