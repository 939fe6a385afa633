"""The encoder contract, on encoders made to break it or to show what they were given."""

import pytest
import torch
import torch.nn.functional as F
from stores import data_spec
from torch import nn

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.base import Encoder
from tissueseg.errors import ConfigError, SpecMismatchError


class Restless(Encoder):
    """Everything in it would change its features if it were ever trained."""

    def __init__(self):
        super().__init__(EncoderSpec("restless", ("he",), (8,) * 4, 8), data_spec("he"))
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.freeze()

    def encode(self, image, present):
        return (self.layers(image),) * 4


class Recorder(Encoder):
    """Keeps what it is given; its features are the means of its patches, or mixed with neighbours."""

    def __init__(self, patch_px=16, mpp=None, data_mpp=0.5, chunk=None, mix=False, **spec):
        spec = EncoderSpec("recorder", ("he",), (3,) * 4, patch_px, mpp, **spec)
        super().__init__(spec, data_spec("he", data_mpp), chunk)
        self.mix, self.seen = mix, []
        self.freeze()

    def encode(self, image, present):
        self.seen.append((image, present))
        means = F.avg_pool2d(image, self.spec.patch_px)
        return (F.avg_pool2d(means, 3, 1, 1) if self.mix else means,) * 4


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Restless()


def test_no_way_into_training_mode(encoder):
    whole = nn.ModuleDict({"encoder": encoder, "other": nn.Dropout()})
    for ask in (
        encoder.train,
        whole.train,
        lambda: encoder.train(True),
        lambda: encoder.requires_grad_(False),
    ):
        ask()
        assert not any(m.training for m in encoder.modules())
    assert whole["other"].training


def test_features_are_the_same_before_and_after_training_mode(encoder):
    image = torch.randn(2, 3, 16, 16)
    before = encoder(image)
    statistics = encoder.layers[1].running_mean.clone()
    after = encoder.train()(image)
    assert torch.equal(before.levels[0], after.levels[0])
    assert torch.equal(encoder.layers[1].running_mean, statistics)


def test_no_gradient_flows_through(encoder):
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    features = encoder(image)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(level.requires_grad for level in features.levels)
    assert features.image is image


@pytest.mark.parametrize(
    "name", ["layers.0.weight", "layers.1.running_mean", "layers.1.num_batches_tracked"]
)
def test_digest_changes_with_any_weight_or_buffer(encoder, name):
    before = encoder.digest()
    assert before == encoder.digest() == encoder.spec.sha256
    encoder.state_dict()[name].view(-1)[0] += 1
    assert encoder.digest() != before


def test_digest_does_not_ask_how_a_weight_lies_in_memory(encoder):
    before = encoder.digest()
    assert encoder.to(memory_format=torch.channels_last).digest() == before


def test_a_halo_is_seen_but_not_returned():
    image = torch.randn(2, 3, 96, 128)
    features = Recorder(halo_px=16)(image)
    whole = Recorder()(image)
    assert torch.equal(features.image, image[..., 16:-16, 16:-16])
    assert all(level.shape == (2, 3, 4, 6) for level in features.levels)
    assert torch.equal(features.levels[0], whole.levels[0][..., 1:-1, 1:-1])


def test_with_a_halo_a_tile_has_the_features_it_has_in_a_larger_one():
    large = torch.randn(1, 3, 160, 160)
    expected = Recorder(mix=True)(large).levels[0][..., 3:7, 3:7]
    with_halo = Recorder(mix=True, halo_px=16)(large[..., 32:128, 32:128]).levels[0]
    without = Recorder(mix=True)(large[..., 48:112, 48:112]).levels[0]
    torch.testing.assert_close(with_halo, expected)
    assert not torch.allclose(without, expected)


@pytest.mark.parametrize(
    ("mpp", "data_mpp", "stride", "side"),
    [(0.25, 0.5, 8, 128), (0.25, 0.25, 16, 64), (0.5, 0.25, 32, 32), (None, 0.5, 16, 64)],
)
def test_an_encoder_sees_tiles_at_its_own_scale(mpp, data_mpp, stride, side):
    encoder = Recorder(mpp=mpp, data_mpp=data_mpp)
    features = encoder(torch.randn(1, 3, 64, 64))
    assert encoder.stride_px == encoder.spec.stride_px == stride
    assert encoder.seen[0][0].shape == (1, 3, side, side)
    assert features.levels[0].shape == (1, 3, 64 // stride, 64 // stride)
    assert features.image.shape == (1, 3, 64, 64)


def test_an_encoder_at_another_scale_takes_its_halo_in_tile_pixels():
    encoder = Recorder(mpp=0.25, halo_px=8)
    features = encoder(torch.randn(1, 3, 80, 80))
    assert encoder.seen[0][0].shape == (1, 3, 160, 160)
    assert features.levels[0].shape == (1, 3, 8, 8)


def test_without_the_images_scale_an_encoder_with_one_is_refused():
    with pytest.raises(SpecMismatchError, match=r"0\.25 µm/px.*encoder\.mpp=null"):
        Recorder(mpp=0.25, data_mpp=None)


def test_token_grids_that_fit_no_whole_number_are_resampled_in_place():
    encoder = Recorder(patch_px=14, mpp=0.25, data_mpp=0.3)
    ramp = torch.arange(256.0).expand(1, 3, 256, 256)
    level = encoder(ramp).levels[0]
    assert encoder.seen[0][0].shape == (1, 3, 308, 308)  # 22 tokens of 11.7 px
    assert encoder.stride_px == 16
    centres = torch.arange(16) * 16 + 7.5
    torch.testing.assert_close(level[0, 0, 5, 2:-2], centres[2:-2], atol=0.5, rtol=0)


def test_a_stated_stride_resamples_too():
    encoder = Recorder(patch_px=14, mpp=0.25, data_mpp=0.25, stride_px=16)
    features = encoder(torch.randn(1, 3, 256, 128))
    assert encoder.seen[0][0].shape == (1, 3, 252, 126)
    assert features.levels[0].shape == (1, 3, 16, 8)


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (8, [5]), (None, [5])])
def test_chunks_change_memory_and_nothing_else(chunk, sizes):
    image, present = torch.randn(5, 3, 64, 64), torch.rand(5, 3) > 0.5
    encoder = Recorder(chunk=chunk, halo_px=16)
    features, whole = encoder(image, present), Recorder(halo_px=16)(image, present)
    assert [len(given) for given, _ in encoder.seen] == sizes
    assert torch.equal(torch.cat([p for _, p in encoder.seen]), present)
    assert torch.equal(features.image, whole.image)
    for a, b in zip(features.levels, whole.levels, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("chunk", [0, -1, 1.5])
def test_chunks_of_no_tiles_are_refused(chunk):
    with pytest.raises(ConfigError, match=r"encoder\.chunk"):
        Recorder(chunk=chunk)
