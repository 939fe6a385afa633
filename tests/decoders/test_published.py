"""A published decoder, written down again from its description, and ours with its weights."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tissueseg.contracts import EncoderSpec, Features
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.errors import ConfigError, WeightsError, WeightsNotFoundError

N_CLASSES = 6
E = 32  # width of the encoder's tokens; below 512, so the narrow layout
PUBLISHED = (312, 256, 128, 256, 128, 64, 32)
TINY = (8,) * 7  # what decoder.width=1/64 makes of them
HEADS = {"classes": {}, "hv": {}, "foreground": {}}


class Layers(nn.Module):
    def __init__(self, *layers, width):
        super().__init__()
        self.block = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.0))

    def forward(self, x):
        return self.block(x)


def conv(i, o):
    return Layers(nn.Conv2d(i, o, 3, padding=1), width=o)


def deconv(i, o):
    return Layers(up(i, o), nn.Conv2d(o, o, 3, padding=1), width=o)


def up(i, o):
    return nn.ConvTranspose2d(i, o, 2, stride=2)


class PublishedDecoder(nn.Module):
    """As CellViT computes it: every branch works out the skips for itself."""

    def __init__(self, widths):
        super().__init__()
        b, s1, s2, quarter, half, full, image = self.widths = widths
        self.decoder0 = nn.Sequential(conv(3, image), conv(image, full))
        self.decoder1 = nn.Sequential(deconv(E, s1), deconv(s1, s2), deconv(s2, half))
        self.decoder2 = nn.Sequential(deconv(E, s1), deconv(s1, quarter))
        self.decoder3 = nn.Sequential(deconv(E, b))
        self.nuclei_binary_map_decoder = self.branch(2)
        self.hv_map_decoder = self.branch(2)
        self.nuclei_type_maps_decoder = self.branch(N_CLASSES)

    def branch(self, outputs):
        b, _, _, quarter, half, full, _ = self.widths
        entry3 = (conv(2 * b, b), conv(b, b), conv(b, b))
        entry2 = (conv(2 * quarter, quarter), conv(quarter, quarter))
        entry1 = (conv(2 * half, half), conv(half, half))
        entry0 = (conv(2 * full, full), conv(full, full))
        stages = {
            "bottleneck_upsampler": up(E, b),
            "decoder3_upsampler": nn.Sequential(*entry3, up(b, quarter)),
            "decoder2_upsampler": nn.Sequential(*entry2, up(quarter, half)),
            "decoder1_upsampler": nn.Sequential(*entry1, up(half, full)),
            "decoder0_header": nn.Sequential(*entry0, nn.Conv2d(full, outputs, 1)),
        }
        return nn.Sequential(OrderedDict(stages))

    def climb(self, branch, image, levels):
        z1, z2, z3, z4 = levels
        x = branch.bottleneck_upsampler(z4)
        x = branch.decoder3_upsampler(torch.cat([self.decoder3(z3), x], dim=1))
        x = branch.decoder2_upsampler(torch.cat([self.decoder2(z2), x], dim=1))
        x = branch.decoder1_upsampler(torch.cat([self.decoder1(z1), x], dim=1))
        return branch.decoder0_header(torch.cat([self.decoder0(image), x], dim=1))


def make_published(widths=TINY):
    torch.manual_seed(3)
    network = PublishedDecoder(widths).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1, 3)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.3, 2)
            module.num_batches_tracked.fill_(17)
    return network


def checkpoint_state(network):
    """With what else lies in a checkpoint: 10 numbers of encoder, 7 of a classifier."""
    others = {"encoder.cls_token": torch.zeros(10), "classifier_head.bias": torch.zeros(7)}
    return dict(network.state_dict()) | others


def save(folder, state):
    path = folder / "cellvit.pth"
    config = {"data.num_nuclei_classes": N_CLASSES}
    torch.save({"arch": "CellViT256", "config": config, "model_state_dict": state}, path)
    return str(path)


def make_spec(width=E, patch_px=16):
    return EncoderSpec("made_up", ("he",), (width,) * 4, patch_px)


def fill(path, spec=None, image_channels=3, n_classes=N_CLASSES, **options):
    options = {"heads": HEADS, "width": 1 / 64, "share": "branches"} | options
    spec = spec or make_spec()
    return SkipDecoder(spec, image_channels, n_classes, weights=str(path), **options)


@pytest.fixture(scope="module")
def tiny():
    return make_published()


@pytest.fixture
def state(tiny):
    return checkpoint_state(tiny)


def make_features(tile_px=32):
    generator = torch.Generator().manual_seed(1)
    levels = [torch.randn(2, E, tile_px // 16, tile_px // 16, generator=generator) for _ in "1234"]
    return Features(tuple(levels), torch.randn(2, 3, tile_px, tile_px, generator=generator))


def assert_same_outputs(published, decoder):
    features = make_features()
    with torch.no_grad():
        ours = decoder.eval()(features)
        theirs = {
            name: published.climb(getattr(published, name), features.image, features.levels)
            for name in ("nuclei_type_maps_decoder", "hv_map_decoder", "nuclei_binary_map_decoder")
        }
    nucleus = theirs["nuclei_binary_map_decoder"].softmax(dim=1)[:, 1:]
    pairs = {
        "classes": (ours["classes"], theirs["nuclei_type_maps_decoder"]),
        "hv": (ours["hv"], theirs["hv_map_decoder"]),
        "foreground": (ours["foreground"].sigmoid(), nucleus),
    }
    for head, (got, wanted) in pairs.items():
        assert wanted.std() > 1e-3, f"{head} is too flat to compare"
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0, msg=head)


def test_the_published_size_gives_the_published_outputs(tmp_path):
    published = make_published(PUBLISHED)
    path = save(tmp_path, checkpoint_state(published))
    decoder = fill(path, width=1.0)
    Path(path).unlink()  # 100 MB, which pytest would keep
    assert_same_outputs(published, decoder)


def test_a_smaller_one_does_too_from_safetensors(tmp_path, tiny, state):
    save_file(state, tmp_path / "cellvit.safetensors")
    assert_same_outputs(tiny, fill(tmp_path / "cellvit.safetensors"))


def test_the_other_spelling_of_the_class_branch(tmp_path, tiny, state):
    renamed = {n.replace("type_maps_decoder", "type_map_decoder"): t for n, t in state.items()}
    assert_same_outputs(tiny, fill(save(tmp_path, renamed)))


def test_every_entry_is_overwritten_and_batch_counters_may_be_absent(tmp_path, state):
    decoder = fill(save(tmp_path, state))
    counters = {n: v for n, v in decoder.state_dict().items() if n.endswith("num_batches_tracked")}
    assert {int(v) for v in counters.values()} == {17}
    torch.manual_seed(99)
    without = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    again = fill(save(tmp_path, without)).state_dict()
    assert {int(again[name]) for name in counters} == {0}
    for name, value in decoder.state_dict().items():
        assert name in counters or torch.equal(value, again[name]), name


def test_filled_decoders_still_train(tmp_path, state):
    decoder = fill(save(tmp_path, state)).train()
    sum(x.square().mean() for x in decoder(make_features()).values()).backward()
    assert all(p.requires_grad and p.grad.isfinite().all() for p in decoder.parameters())


def numbers(state):
    return sum(t.numel() for n, t in state.items() if not n.endswith("num_batches_tracked"))


def test_every_number_is_accounted_for(tmp_path, state):
    path = save(tmp_path, state)
    decoder = fill(path)
    accounting = decoder.accounting
    assert accounting.layout == "cellvit_decoder"
    assert accounting.loaded == numbers(decoder.state_dict())
    assert accounting.missing == 0
    assert accounting.loaded + accounting.ignored == numbers(state)
    assert accounting.reasons == (
        "classifier_head.* (7): a classifier of tissues",
        "encoder.* (10): the encoder, see encoder.weights",
        "nuclei_binary_map_decoder.decoder0_header.2.* (9): two logits became their difference",
    )


def test_heads_the_decoder_lacks_stay_behind_and_are_named(tmp_path, state):
    accounting = fill(save(tmp_path, state), heads={"classes": {}}).accounting
    left = {r.split(" ")[0] for r in accounting.reasons}
    assert {"hv_map_decoder.*", "nuclei_binary_map_decoder.*"} < left
    assert accounting.loaded + accounting.ignored == numbers(state)


def assert_refused(*says, **arguments):
    with pytest.raises(WeightsError) as caught:
        fill(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        (("has 6 classes, the store has 4", "prepare a store"), {"n_classes": 4}),
        (("3 channels", "have 5", "modality=he"), {"image_channels": 5}),
        (("width 32", "returns 48", "the encoder these"), {"spec": make_spec(48)}),
        (
            ("decoder3 decodes", "returns 40"),
            {"spec": replace(make_spec(), channels=(E, E, 40, E))},
        ),
        (("every 16 px", "one every 8 px", "own µm/px"), {"spec": make_spec(patch_px=8)}),
        (("decoder.share=branches, got trunk", "decoder=cellvit"), {"share": "trunk"}),
        (("decoder.skips=all, got image_only",), {"skips": "image_only"}),
        (("decoder.project=null, got 32",), {"project": 32}),
        (("has shape", "decoder.width=1"), {"width": 1 / 16}),
        (("has nothing for", "depth 2"), {"heads": {"classes": {"depth": 1}}}),
        (("has nothing for", "depth 2"), {"heads": {"classes": {"depth": 3}}}),
        (("has shape", "hidden 64"), {"heads": {"classes": {"hidden": 16}}}),
        (
            ("heads.boundary has no published weights", "classes, foreground, hv"),
            {"heads": {"classes": {}, "boundary": {}}},
        ),
    ],
)
def test_decoders_of_another_shape_are_refused(tmp_path, state, says, arguments):
    assert_refused(*says, path=save(tmp_path, state), **arguments)


def test_files_without_a_decoder_are_refused(tmp_path, state):
    encoder_only = {n: t for n, t in state.items() if n.startswith("encoder.")}
    assert_refused(
        "no CellViT decoder, only encoder",
        "decoder.weights=null",
        path=save(tmp_path, encoder_only),
    )
    virtues = {"encoder.patch_summary_token": torch.ones(2), "decoder.weight": torch.ones(2)}
    assert_refused("no CellViT decoder, only decoder, encoder", path=save(tmp_path, virtues))


HEADER = "nuclei_binary_map_decoder.decoder0_header"


@pytest.mark.parametrize(
    ("dropped", "says"),
    [
        ("hv_map_decoder.", "lacks hv_map_decoder, which decoder.heads.hv needs"),
        ("decoder2.1", "has nothing for decoder2.1.block.0.bias"),
        ("decoder0.0.block.1.running_var", "has nothing for decoder0.0.block.1.running_var"),
    ],
)
def test_incomplete_decoders_are_refused(tmp_path, state, dropped, says):
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(dropped)}
    assert_refused(says, path=save(tmp_path, rest))


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        (f"{HEADER}.3.weight", torch.ones(2), f"also has {HEADER}.3.weight"),
        (f"{HEADER}.2.bias", torch.ones(4), "has shape [4], wanted 2 outputs"),
        ("decoder1.0.block.0.bias", torch.full((8,), torch.nan), "values that are not finite"),
        ("decoder1.0.block.0.weight", torch.ones(()), "has shape [], wanted [32, 8, 2, 2]"),
    ],
)
def test_damaged_decoders_are_refused(tmp_path, state, name, tensor, says):
    assert_refused(name, says, path=save(tmp_path, state | {name: tensor}))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(WeightsNotFoundError, match="no weights at"):
        fill(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("weights", ["", 3])
def test_weights_that_are_no_address(weights):
    with pytest.raises(ConfigError, match=r"decoder\.weights="):
        SkipDecoder(make_spec(), 3, 4, HEADS, weights=weights)
