"""What every encoder in configs/encoder promises, built as `assembly` builds it, at a size for tests."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from stores import PANEL, choices, compose, data_spec
from torch import nn

from tissueseg.building import build
from tissueseg.contracts import LEVELS, Modality
from tissueseg.features import build_encoder

SMALL = {
    "levels": [1, 2, 3, 4],
    "heads": 4,
    "hidden": 48,
    "pattern": "hvhv",
    "grid": 16,
    "window": 3,
    "swiglu_hidden": 40,
    "random_init": True,
    "weights": None,
}
"""Options that, where an encoder has them, make it small."""


def shrink(node):
    for key, value in SMALL.items():
        if key in node:
            node[key] = value
    if "channels" in node.spec:
        node.spec.channels = [32] * LEVELS
    for part in ("he", "sp"):
        if part in node:
            shrink(node[part])


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("markers") / "table.safetensors"
    save_file({c.uniprot: torch.randn(640) for c in PANEL}, path)
    return path


@pytest.fixture(scope="module", params=choices("encoder"))
def config(request, table):
    config = compose(f"encoder={request.param}", f"markers.table={table}")
    shrink(config.encoder)
    return config


def make(config, **options):
    modality = (
        Modality.HE_SP if config.encoder.get("he") else build(config.encoder.spec).modalities[0]
    )
    for key, value in options.items():
        config.encoder[key] = value
    return build_encoder(config, data_spec(modality.value))


@pytest.fixture(scope="module")
def encoder(config):
    return make(config)


def image_for(encoder, grid=(2, 3), batch=2):
    halo = 2 * encoder.spec.halo_px
    sides = (side * encoder.spec.stride_px + halo for side in grid)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, encoder.data.image_channels, *sides, generator=generator)


@pytest.mark.parametrize("grid", [(2, 3), (5, 4)])
def test_features_are_what_the_spec_says(encoder, grid):
    image = image_for(encoder, grid)
    features = encoder(image)
    assert len(features.levels) == LEVELS == len(encoder.spec.channels)
    shapes = [tuple(level.shape) for level in features.levels]
    assert shapes == [(2, width, *grid) for width in encoder.spec.channels]
    assert all(level.isfinite().all() for level in features.levels)
    assert torch.equal(features.image, image)


def test_tokens_lie_where_decoders_meet_them(encoder):
    assert encoder.spec.stride_px in (8, 16)


def test_a_halo_is_seen_and_not_returned(config, encoder):
    stride = encoder.spec.stride_px
    wide = make(config.copy(), halo_px=stride)
    image = image_for(wide)
    features = wide(image)
    assert [level.shape[-2:] for level in features.levels] == [(2, 3)] * LEVELS
    assert torch.equal(features.image, image[..., stride:-stride, stride:-stride])
    whole = encoder(image).levels
    for core, level in zip(features.levels, whole, strict=True):
        torch.testing.assert_close(core, level[..., 1:-1, 1:-1])


def test_chunks_change_nothing(config, encoder):
    if "chunk" not in config.encoder:
        pytest.skip("an encoder of this size needs no chunks")
    image = image_for(encoder, batch=3)
    chunked = make(config.copy(), chunk=2)
    for a, b in zip(chunked(image).levels, encoder(image).levels, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_close(encoder, dtype):
    image = image_for(encoder)
    exact = encoder(image).levels
    with torch.autocast("cpu", dtype=dtype):
        rough = encoder(image).levels
    for a, b in zip(rough, exact, strict=True):
        assert (a.float() - b).norm() < 0.02 * b.norm()


def test_it_stays_frozen(encoder):
    holder = nn.ModuleList([encoder])
    for switch in (encoder.train, holder.train):
        switch()
        assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    image = image_for(encoder).requires_grad_()
    assert not any(level.requires_grad for level in encoder(image).levels)


def test_the_same_image_gives_the_same_features(encoder):
    image = image_for(encoder)
    once, twice = encoder(image), encoder.train()(image)
    assert all(torch.equal(a, b) for a, b in zip(once.levels, twice.levels, strict=True))


def test_a_second_one_is_the_same_and_leaves_the_random_state(config, encoder):
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    assert make(config).spec == encoder.spec
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_digest_knows_every_weight(config):
    encoder = make(config)
    assert encoder.digest() == encoder.spec.sha256
    seen = {encoder.digest()}
    for value in encoder.state_dict().values():
        value.view(-1)[-1] += 1
        seen.add(encoder.digest())
    assert len(seen) == 1 + len(encoder.state_dict())


def test_random_weights_are_named_so(encoder):
    assert encoder.spec.random_init
    assert encoder.spec.label.endswith("_random_init")


def test_without_weights_it_is_refused(config):
    if "weights" not in config.encoder:
        pytest.skip("it has none of its own")
    with pytest.raises(
        ValueError, match=r"has no weights: give encoder\.weights=.*random_init=true"
    ):
        make(config.copy(), random_init=False)
