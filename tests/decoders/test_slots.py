"""Where SkipDecoder calls its slots, with what, and what it makes of their answer."""

import pytest
import torch
from torch import nn

from tissueseg.contracts import EncoderSpec, Features
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.errors import ConfigError, SpecMismatchError

COARSE = {f"boundary_stride{s}": {"depth": 0} for s in (8, 4, 2, 1)}
EVERY = {"classes": {}, "boundary": {"depth": 1}} | COARSE
GUIDES = {"foreground_stride4": {"depth": 0}, "foreground_stride1": {"depth": 0}}


class Recorder(nn.Module):
    """Keeps what it is given, and doubles the first of it."""

    def __init__(self, channels=None):
        super().__init__()
        self.channels, self.calls = channels, []

    def forward(self, x, guide=None):
        self.calls.append((x, guide))
        return 2 * x


def make(heads, **options):
    torch.manual_seed(0)
    spec = EncoderSpec("made_up", ("sp",), (32,) * 4, 8, stride_px=8)
    given = {"width": 1 / 8, "dropout": 0.0} | options
    return SkipDecoder(spec, 5, 4, heads, **given).eval()


def features(tile=(32, 48)):
    generator = torch.Generator().manual_seed(1)
    grid = tuple(side // 8 for side in tile)
    levels = tuple(torch.randn(2, 32, *grid, generator=generator) for _ in range(4))
    return Features(levels, torch.randn(2, 5, *tile, generator=generator))


def test_coarse_heads_read_the_branch_where_it_has_their_stride():
    sizes = {name: tuple(x.shape[1:]) for name, x in make(EVERY | GUIDES)(features()).items()}
    assert sizes["boundary_stride8"] == (1, 4, 6)
    assert sizes["boundary_stride4"] == sizes["foreground_stride4"] == (1, 8, 12)
    assert sizes["boundary_stride2"] == (1, 16, 24)
    assert sizes["boundary_stride1"] == sizes["foreground_stride1"] == (1, 32, 48)
    assert sizes["classes"] == (4, 32, 48)


def test_the_context_sees_the_bottleneck_and_its_answer_goes_on():
    decoder = make({"classes": {}}, context=Recorder)
    plain = make({"classes": {}})
    plain.load_state_dict(decoder.state_dict())
    found = decoder(features())["classes"]
    trunk = decoder.branches["trunk"]
    ((x, _),) = trunk.context.calls
    torch.testing.assert_close(x, trunk.bottleneck_upsampler(features().levels[-1]))
    assert trunk.context.channels == x.shape[1]
    with torch.no_grad():  # twice the answer is twice the layer before
        for parameter in plain.branches["trunk"].bottleneck_upsampler.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(plain(features())["classes"], found)


def test_refine_gets_the_last_stage_under_the_coarse_foreground():
    decoder = make({"classes": {}} | GUIDES, refine=Recorder)
    outputs = decoder(features())
    ((x, guide),) = decoder.branches["trunk"].refine.calls
    assert x.shape[2:] == (32, 48)
    assert decoder.branches["trunk"].refine.channels == x.shape[1]
    assert torch.equal(guide, outputs["foreground_stride4"])


def test_the_gate_gets_the_images_skip_and_nothing_else():
    decoder = make({"classes": {}} | GUIDES, gate=Recorder)
    outputs = decoder(features())
    ((skip, guide),) = decoder.gate.calls
    torch.testing.assert_close(skip, decoder.decoder0(features().image))
    assert torch.equal(guide, outputs["foreground_stride1"])


def test_boundary_attention_weighs_every_scale_and_in_the_end_what_other_heads_read():
    decoder = make(EVERY, boundary_attention=Recorder)
    outputs = decoder(features())
    guides = [guide for _, guide in decoder.boundary_attention.calls]
    wanted = [f"boundary_stride{s}" for s in (8, 4, 2, 1)] + ["boundary"]
    assert [id(g) for g in guides] == [id(outputs[name]) for name in wanted]
    top, _ = decoder.boundary_attention.calls[-1]
    torch.testing.assert_close(decoder.decoder0_header["boundary"](top), outputs["boundary"])
    torch.testing.assert_close(decoder.decoder0_header["classes"](2 * top), outputs["classes"])


def test_every_branch_has_its_own_context_and_refine_and_is_weighed_by_the_boundarys():
    decoder = make(
        EVERY | GUIDES,
        share="branches",
        context=Recorder,
        refine=Recorder,
        boundary_attention=Recorder,
    )
    outputs = decoder(features())
    assert list(decoder.branches) == ["classes", "boundary"]
    for branch in decoder.branches.values():
        assert len(branch.context.calls) == len(branch.refine.calls) == 1
    calls = decoder.boundary_attention.calls
    assert len(calls) == 2 * 5
    assert calls[0][1] is calls[1][1] is outputs["boundary_stride8"]
    read = decoder.coarse_heads["boundary_stride8"](calls[1][0])
    torch.testing.assert_close(read, outputs["boundary_stride8"])  # of the boundary's own branch


@pytest.mark.parametrize(
    ("heads", "options", "said"),
    [
        ({"classes": {}}, {"refine": Recorder}, "refine is guided by foreground_stride4"),
        ({"classes": {}}, {"gate": Recorder}, "gate is guided by foreground_stride1"),
        ({"classes": {}}, {"boundary_attention": Recorder}, "guided by boundary and at least one"),
        (
            {"classes": {}, "boundary": {}},
            {"boundary_attention": Recorder},
            "guided by boundary and at least one of boundary_stride8",
        ),
        ({"classes": {}} | GUIDES, {"gate": Recorder, "skips": "none"}, "decoder.skips=none"),
        (GUIDES, {}, "a head at the tile's size"),
        ({"classes": {"depth": True}}, {}, "depth=true"),
    ],
)
def test_a_slot_that_would_not_run_is_refused(heads, options, said):
    with pytest.raises(ConfigError, match=said):
        make(heads, **options)


@pytest.mark.parametrize(
    "name", ["boundary_stride3", "boundary_stride", "outline_stride4", "boundary_stride16"]
)
def test_unknown_coarse_heads_are_refused(name):
    with pytest.raises(SpecMismatchError, match=f"'{name}'; choose from classes"):
        make({"classes": {}, name: {}})


def test_a_warm_up_is_told_how_far_training_is():
    told = []

    class Warm(Recorder):
        def set_progress(self, done):
            told.append(done)

    make(EVERY, boundary_attention=Warm).set_progress(0.25)
    make({"classes": {}}).set_progress(0.25)  # nothing to warm up
    assert told == [0.25]
