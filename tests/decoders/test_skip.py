import pytest
import torch

from tissueseg.contracts import EncoderSpec, Features
from tissueseg.decoders.blocks import ConvBlock, DeconvBlock
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.errors import ConfigError, SpecMismatchError

HEADS = {"classes": {}, "boundary": {"depth": 1}}
N_CLASSES, IMAGE_CHANNELS = 4, 5


def make_spec(stride_px=16, channels=(32, 32, 32, 32)):
    return EncoderSpec("made_up", ("sp",), channels, stride_px)


def make_decoder(spec, **options):
    torch.manual_seed(0)
    options = {"heads": HEADS, "width": 1 / 8} | options
    return SkipDecoder(spec, IMAGE_CHANNELS, N_CLASSES, **options)


def make_features(spec, tile=(32, 32), batch=2, image_channels=IMAGE_CHANNELS):
    generator = torch.Generator().manual_seed(1)
    h, w = (side // spec.stride_px for side in tile)
    levels = [torch.randn(batch, d, h, w, generator=generator) for d in spec.channels]
    return Features(tuple(levels), torch.randn(batch, image_channels, *tile, generator=generator))


def biases_before_batch_norm(decoder):
    """BN subtracts them again: their true gradient is 0, what is computed is rounding."""
    biases = [m.block[0].bias for m in decoder.modules() if isinstance(m, ConvBlock)]
    biases += [m.block[1].bias for m in decoder.modules() if isinstance(m, DeconvBlock)]
    return {id(bias) for bias in biases}


@pytest.mark.parametrize("stride_px", [8, 16])
@pytest.mark.parametrize("skips", ["all", "image_only", "none"])
@pytest.mark.parametrize("share", ["trunk", "branches"])
def test_logits_have_the_tiles_size_and_gradient_reaches_every_parameter(stride_px, skips, share):
    spec = make_spec(stride_px)
    decoder = make_decoder(spec, skips=skips, share=share)
    outputs = decoder(make_features(spec, (48, 32)))
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        "classes": (2, 4, 48, 32),
        "boundary": (2, 1, 48, 32),
    }
    sum(x.square().mean() for x in outputs.values()).backward()
    silent = biases_before_batch_norm(decoder)
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert id(parameter) in silent or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("channels", [(32,) * 4, (384,) * 4, (1280,) * 4, (48, 64, 80, 512)])
def test_any_embedding_width(channels):
    spec = make_spec(channels=channels)
    decoder = make_decoder(spec).eval()
    assert decoder(make_features(spec))["classes"].shape == (2, 4, 32, 32)
    paths = (decoder.decoder1, decoder.decoder2, decoder.decoder3)
    assert tuple(path[0].block[0].in_channels for path in paths) == channels[:3]


@pytest.mark.parametrize("tile", [(32, 32), (120, 120), (40, 72)])
def test_batch_of_one_in_training_on_tiles_of_any_multiple_of_the_stride(tile):
    spec = make_spec(8)
    out = make_decoder(spec)(make_features(spec, tile, batch=1))
    assert out["classes"].shape == (1, 4, *tile)


def test_channels_last_and_repeated_evaluation_change_nothing():
    spec = make_spec()
    decoder, features = make_decoder(spec).eval(), make_features(spec)
    with torch.no_grad():
        once, twice = decoder(features), decoder(features)
        decoder = decoder.to(memory_format=torch.channels_last)
        last = Features(
            tuple(x.contiguous(memory_format=torch.channels_last) for x in features.levels),
            features.image.contiguous(memory_format=torch.channels_last),
        )
        other = decoder(last)
    for name in once:
        assert torch.equal(once[name], twice[name])
        torch.testing.assert_close(once[name], other[name], atol=1e-5, rtol=1e-4)


def test_bfloat16_autocast_is_finite_and_near_float32():
    spec = make_spec()
    decoder, features = make_decoder(spec, dropout=0.0), make_features(spec)
    exact = decoder(features)["classes"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = decoder(features)["classes"]
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()
    rough.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in decoder.branches.parameters())


def test_an_empty_tile_stays_finite():
    spec = make_spec()
    empty = Features(tuple(torch.zeros(2, 32, 2, 2) for _ in range(4)), torch.zeros(2, 5, 32, 32))
    outputs = make_decoder(spec)(empty)
    sum(x.square().mean() for x in outputs.values()).backward()
    assert all(x.isfinite().all() for x in outputs.values())


def test_skips_that_are_off_leave_no_trace():
    spec, features = make_spec(), make_features(make_spec())
    noise = torch.randn_like(features.image)
    other = features._replace(image=noise, levels=(*features.levels[:3][::-1], features.levels[3]))
    without = make_decoder(spec, skips="none").eval()
    assert torch.equal(without(features)["classes"], without(other)["classes"])
    assert not [name for name, _ in without.named_parameters() if name.startswith("decoder1")]
    image_only = make_decoder(spec, skips="image_only").eval()
    levels_differ = features._replace(levels=other.levels)
    assert torch.equal(image_only(features)["classes"], image_only(levels_differ)["classes"])
    assert not torch.equal(image_only(features)["classes"], image_only(other)["classes"])


def test_a_shared_branch_serves_all_heads():
    decoder = make_decoder(make_spec())
    assert decoder.head_names == ("classes", "boundary")
    assert set(decoder.branches) == {"trunk"}
    assert set(make_decoder(make_spec(), share="branches").branches) == {"classes", "boundary"}


WIDE = (48, 64, 80, 640)


@pytest.mark.parametrize(("skips", "projected"), [("all", 4), ("image_only", 1), ("none", 1)])
def test_levels_that_are_used_are_projected_first(skips, projected):
    spec = make_spec(channels=WIDE)
    decoder = make_decoder(spec, project=24, skips=skips)
    entries = {tuple(layer.weight.shape) for layer in decoder.projections}
    assert entries == {(24, c, 1, 1) for c in WIDE[4 - projected :]}
    outputs = decoder(make_features(spec))
    sum(x.square().mean() for x in outputs.values()).backward()
    assert all(p.grad.abs().max() > 0 for p in decoder.projections.parameters())


def test_projected_levels_decode_as_if_the_encoder_had_returned_them():
    spec, narrow = make_spec(channels=WIDE), make_spec(channels=(24,) * 4)
    projecting, plain = make_decoder(spec, project=24).eval(), make_decoder(narrow).eval()
    plain.load_state_dict(
        {n: v for n, v in projecting.state_dict().items() if not n.startswith("projections.")}
    )
    features = make_features(spec)
    pairs = zip(projecting.projections, features.levels, strict=True)
    projected = features._replace(levels=tuple(layer(level) for layer, level in pairs))
    assert torch.equal(projecting(features)["classes"], plain(projected)["classes"])


def test_widths_follow_the_projection():
    spec = make_spec(channels=WIDE)
    deepest = [make_decoder(spec, width=1.0, project=p).branches["trunk"] for p in (None, 511, 512)]
    assert [b.bottleneck_upsampler.out_channels for b in deepest] == [512, 312, 512]


def test_nothing_is_projected_or_loaded_unless_asked():
    decoder = make_decoder(make_spec())
    assert not [n for n in decoder.state_dict() if n.startswith("projections")]
    assert decoder.accounting is None


@pytest.mark.parametrize(("skips", "project"), [("all", None), ("none", 16)])
def test_compiles_without_a_graph_break(skips, project):
    spec = make_spec(8)
    decoder = make_decoder(spec, skips=skips, project=project).eval()
    features = make_features(spec)
    compiled = torch.compile(decoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(features)["classes"], decoder(features)["classes"])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"skips": "some"}, ConfigError, "decoder.skips='some'"),
        ({"share": "none"}, ConfigError, "decoder.share='none'"),
        ({"heads": {}}, ConfigError, "at the tile's size"),
        ({"heads": {"classes": {"deep": 2}}}, ConfigError, r"decoder.heads.classes has \['deep'\]"),
        ({"project": 0}, ConfigError, "decoder.project=0"),
        ({"project": 2.5}, ConfigError, "decoder.project=2.5"),
        ({"project": True}, ConfigError, "decoder.project=true"),
        ({"heads": {"type": {}}}, SpecMismatchError, "'type'"),
    ],
)
def test_options_that_cannot_be_used(options, error, says):
    with pytest.raises(error, match=says):
        make_decoder(make_spec(), **options)


def test_strides_that_do_not_fit():
    with pytest.raises(SpecMismatchError, match="every 32 px"):
        make_decoder(make_spec(32))
    decoder = make_decoder(make_spec(8))
    with pytest.raises(SpecMismatchError, match="every 8 px"):
        decoder(make_features(make_spec(16)))
