"""Every decoder in configs/ composes, builds and decodes."""

import hydra
import pytest
import torch

from tissueseg.config import CONFIG_DIR
from tissueseg.contracts import EncoderSpec, Features
from tissueseg.decoders import published

NAMES = sorted(path.stem for path in (CONFIG_DIR / "decoder").glob("*.yaml"))


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base=None):
        return hydra.compose(overrides=[f"+decoder={name}", *overrides]).decoder


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_and_decodes(name):
    spec = EncoderSpec("made_up", ("sp",), (32,) * 4, 8)
    build = hydra.utils.instantiate(compose(name, "decoder.width=0.125"))
    decoder = build(spec=spec, image_channels=3, n_classes=5)
    levels = tuple(torch.randn(1, 32, 4, 4) for _ in range(4))
    outputs = decoder(Features(levels, torch.randn(1, 3, 32, 32)))
    assert tuple(outputs) == decoder.head_names
    assert outputs["classes"].shape == (1, 5, 32, 32)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("baseline", ["classes"]),
        ("cellvit", ["classes"]),
        ("boundary", ["classes", "boundary"]),
        ("boundary_att", ["classes", "boundary"]),
    ],
)
def test_slots_add_their_heads(name, heads):
    assert list(compose(name).heads) == heads


def test_cellvits_own_shape_is_the_one_its_weights_fill():
    config = compose("cellvit")
    assert {key: config[key] for key in published.SETTINGS} == published.SETTINGS
    assert config.width == 1.0
    assert compose("cellvit", "decoder.weights=some.pth").weights == "some.pth"
