"""What the choices in configs/decoder are made of; that they keep their promises is in contracts/."""

import hydra
import pytest

from tissueseg.config import CONFIG_DIR
from tissueseg.decoders import published

SLOTS = ("context", "boundary_attention", "gate", "refine")
BOUNDARIES = ["boundary_stride4", "boundary_stride2", "boundary"]


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base=None):
        return hydra.compose(overrides=["+loss=none", f"+decoder={name}", *overrides])


COMPOSITIONS = [
    ("baseline", ["classes"], []),
    ("cellvit", ["classes"], []),
    ("boundary", ["classes", "boundary"], []),
    ("boundary_att", ["classes", *BOUNDARIES], ["boundary_attention"]),
    ("masked_attention", ["classes", "foreground_stride4"], ["refine"]),
    ("global_context", ["classes"], ["context"]),
    ("feature_gating", ["classes", "foreground_stride1"], ["gate"]),
    ("boundary_masked_att", ["classes", "boundary", "foreground_stride4"], ["refine"]),
    ("boundary_global_context", ["classes", "boundary"], ["context"]),
    ("boundary_feature_gating", ["classes", "boundary", "foreground_stride1"], ["gate"]),
    ("instance", ["foreground", "hv"], []),
    ("panoptic", ["classes", "foreground", "hv"], []),
]


@pytest.mark.parametrize(("name", "heads", "slots"), COMPOSITIONS)
def test_a_name_states_the_composition(name, heads, slots):
    decoder = compose(name).decoder
    assert list(decoder.heads) == heads
    assert [slot for slot in SLOTS if decoder[slot] is not None] == slots


def test_every_choice_stands_above():
    files = sorted(path.stem for path in (CONFIG_DIR / "decoder").glob("*.yaml"))
    assert sorted(name for name, *_ in COMPOSITIONS) == files


def test_slots_are_added_to_any_choice_with_their_terms():
    config = compose("boundary", "+decoder/slots@decoder=[masked_attention,global_context]")
    assert list(config.decoder.heads) == ["classes", "boundary", "foreground_stride4"]
    assert list(config.loss.terms) == ["boundary", "foreground_stride4"]
    assert config.decoder.refine is not None
    assert config.decoder.context is not None


@pytest.mark.parametrize(("name", "share"), [("cellvit", "branches"), ("panoptic", "branches")])
def test_cellvits_own_shape_is_the_one_its_weights_fill(name, share):
    decoder = compose(name).decoder
    assert {key: decoder[key] for key in published.SETTINGS} == published.SETTINGS
    assert (decoder.width, decoder.share) == (1.0, share)
    assert compose(name, "decoder.weights=some.pth").decoder.weights == "some.pth"
