"""What fine-tuning may be asked for, what it is called, and low-rank updates by hand."""

import math

import pytest
import torch
from stores import data_spec
from torch import nn

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.finetune import Finetune, LowRank, tune
from tissueseg.errors import ConfigError


def test_low_rank_updates_by_hand():
    layer = LowRank(torch.zeros(3, 2), rank=1, alpha=0.5)
    assert not layer.lora_b.any()
    assert layer.lora_a.any()
    with torch.no_grad():
        layer.lora_a.copy_(torch.tensor([[2.0, 4.0]]))
        layer.lora_b.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    weight = torch.ones(3, 2)
    expected = [[2.0, 3.0], [1.0, 1.0], [0.0, -1.0]]
    assert layer(weight).tolist() == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(weight).tolist() == expected
        assert layer(weight).dtype == torch.float32


class Blockless(Encoder):
    def __init__(self):
        super().__init__(EncoderSpec("blockless", ("he",), (8,) * 4, 8), data_spec("he"))
        self.layer = nn.Conv2d(3, 8, 8, 8)
        self.freeze()

    def encode(self, image, present):
        return (self.layer(image),) * 4


def test_an_encoder_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"encoder=blockless has no transformer blocks"):
        tune(Blockless(), Finetune(blocks=1), 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blocks": -1}, "finetune.blocks=-1, wanted a whole number of at least 0 .blocks"),
        ({"blocks": True}, "finetune.blocks=true"),
        ({"blocks": None}, "finetune.blocks=null"),
        ({"lora": 0}, "finetune.lora=0, wanted a whole number of at least 1 .a rank, or null"),
        ({"lora": 2.5}, r"finetune.lora=2\.5"),
        ({"lora": 4, "lora_alpha": 0}, "finetune.lora_alpha=0"),
        ({"lora_alpha": 8}, "finetune.lora_alpha=8 scales what finetune.lora=null leaves out"),
        ({"lr_factor": 0}, "finetune.lr_factor=0"),
        ({"lr_factor": math.inf}, "finetune.lr_factor=inf"),
        ({"blocks": 2, "lora": 4}, "finetune.blocks=2 and finetune.lora=4 exclude each other"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Finetune(**options)


@pytest.mark.parametrize(
    ("how", "label"),
    [
        (Finetune(), "virtues"),
        (Finetune(lora=8), "virtues+lora8"),
        (Finetune(lora=8, lora_alpha=16), "virtues+lora8a16"),
        (Finetune(blocks=2), "virtues+blocks2"),
    ],
)
def test_a_tuned_encoder_is_called_so(how, label):
    assert how.label("virtues") == label
    assert Finetune(**how.as_dict()) == how
