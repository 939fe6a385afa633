"""What every decoder in configs/decoder promises by itself; for training see test_compositions."""

from functools import partial
from inspect import signature

import pytest
import torch
from stores import choices, compose

from tissueseg.building import build
from tissueseg.composition import plain
from tissueseg.contracts import EncoderSpec, Features
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.heads import head_channels, head_stride

N_CLASSES = 3
IMAGE_CHANNELS = 4
SLOTS = tuple(
    name
    for name, given in signature(SkipDecoder).parameters.items()
    if str(given.annotation).startswith("collections.abc.Callable")
)


def widths_of(narrow=16, stride_px=8):
    """A spec whose levels are that wide."""
    return EncoderSpec("widths", ("he",), (narrow,) * 4, stride_px, stride_px=stride_px)


def make(config, spec, **options):
    """A decoder as it is built for training, with seeded weights, at the end of its warm-up."""
    torch.manual_seed(0)
    node = build(config.decoder)
    decoder = node(spec=spec, image_channels=IMAGE_CHANNELS, n_classes=N_CLASSES, **options)
    decoder.set_progress(1.0)
    decoder.to(memory_format=torch.channels_last)
    norms = [m for m in decoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momentum = norms[0].momentum
    _take_statistics(norms, 1.0)  # a net that knows none hands down next to nothing from its depth
    decoder(features_for(spec))
    _take_statistics(norms, momentum)
    return decoder


def _take_statistics(norms, momentum):
    for layer in norms:
        layer.momentum = momentum


def features_for(spec, batch=2, tile_px=(48, 64)):
    generator = torch.Generator().manual_seed(1)
    drawn = partial(torch.randn, generator=generator)
    grid = tuple(side // spec.stride_px for side in tile_px)
    return Features(
        tuple(drawn(batch, width, *grid) for width in spec.channels),
        drawn(batch, IMAGE_CHANNELS, *tile_px),
    )


@pytest.fixture(scope="module", params=choices("decoder"))
def config(request):
    return compose("setting=untrained", f"decoder={request.param}", "decoder.width=0.0625")


@pytest.fixture(params=[8, 16])
def spec(request):
    return widths_of(stride_px=request.param)


def filled(config):
    return [slot for slot in SLOTS if config.decoder[slot] is not None]


def assert_shapes(config, outputs, batch, tile_px):
    assert list(outputs) == list(config.decoder.heads)
    for head, logits in outputs.items():
        stride = head_stride(head) or 1
        size = tuple(side // stride for side in tile_px)
        assert logits.shape == (batch, head_channels(head, N_CLASSES), *size), head
        assert logits.isfinite().all(), head


@pytest.mark.parametrize("tile_px", [(48, 64), (80, 80)])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_head_gives_logits_at_its_stride(config, spec, batch, tile_px):
    decoder = make(config, spec)
    assert_shapes(config, decoder(features_for(spec, batch, tile_px)), batch, tile_px)


@pytest.mark.parametrize("width", [32, 384, 512, 1280])
def test_any_width_of_embedding_enters(config, spec, width):
    wide = widths_of(width, spec.stride_px)
    decoder = make(config, wide)
    assert_shapes(config, decoder(features_for(wide, 1)), 1, (48, 64))


@pytest.mark.parametrize("skips", ["all", "image_only", "none"])
@pytest.mark.parametrize("share", ["trunk", "branches"])
def test_skips_and_branches_are_free_to_choose(config, spec, skips, share):
    if skips == "none" and config.decoder.gate is not None:
        pytest.skip("a gate on the image's skip needs one, and says so when it is built")
    decoder = make(config, spec, skips=skips, share=share)
    assert_shapes(config, decoder(features_for(spec)), 2, (48, 64))


def test_eval_gives_the_same_output_twice_and_whatever_else_is_in_the_batch(config, spec):
    decoder, features = make(config, spec).eval(), features_for(spec)
    first = Features(tuple(level[:1] for level in features.levels), features.image[:1])
    with torch.no_grad():
        once, twice, alone = decoder(features), decoder(features), decoder(first)
    for head, logits in once.items():
        assert torch.equal(logits, twice[head])
        torch.testing.assert_close(logits[:1], alone[head], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("share", ["trunk", "branches"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_every_filled_slot_changes_what_comes_out(config, spec, mode, share):
    """The study's flag for masked attention was switched off by its training loop, and none noticed."""
    with_slots = getattr(make(config, spec, share=share), mode)()
    for slot in filled(config):
        without = make(config, spec, share=share, **{slot: None})
        without.load_state_dict(with_slots.state_dict(), strict=False)
        getattr(without, mode)()
        features = features_for(spec)
        found, plain_ = with_slots(features), without(features)
        ends = [head for head in found if head_stride(head) is None]
        changed = [h for h in ends if (found[h] - plain_[h]).abs().max() > 1e-3 * found[h].std()]
        assert changed, slot
        assert len(changed) >= len(ends) - (slot == "boundary_attention"), slot


def test_the_loss_of_a_coarse_head_reaches_the_depth_of_its_branch(config, spec):
    """Deep supervision is of the trunk: a head that learns by itself alone would be none."""
    for head in (name for name in config.decoder.heads if head_stride(name)):
        decoder = make(config, spec)
        decoder(features_for(spec))[head].square().mean().backward()
        entry = decoder.branches["trunk" if "trunk" in decoder.branches else head.split("_")[0]]
        assert entry.bottleneck_upsampler.weight.grad.abs().max() > 0, head


def test_slots_listen_to_their_guides_in_the_right_direction(config, spec):
    """A head that is sure of something opens what it guides, and one sure of the contrary closes it."""
    decoder, given = make(config, spec).eval(), {}

    def keep(slot, module, values, out):
        given.setdefault(slot, []).append((values, out))

    modules = {n: m for n, m in decoder.named_modules() if n.split(".")[-1] in SLOTS}
    for name, module in modules.items():
        module.register_forward_hook(partial(keep, name))
    for sure in (-50.0, 50.0):
        _make_sure(decoder, sure)
        decoder(features_for(spec))
    assert {name.split(".")[-1] for name in given} == set(filled(config))
    for name, calls in given.items():
        half = len(calls) // 2
        for (values, closed), (again, opened) in zip(calls[:half], calls[half:], strict=True):
            _assert_direction(name.split(".")[-1], (values[0], closed), (again[0], opened))


def _make_sure(decoder, logit):
    heads = (
        [*decoder.coarse_heads.values(), decoder.decoder0_header["boundary"]]
        if ("boundary" in decoder.decoder0_header)
        else [*decoder.coarse_heads.values()]
    )
    with torch.no_grad():
        for head in heads:
            head[-1].weight.zero_()
            head[-1].bias.fill_(logit)


def _assert_direction(slot, closed, opened):
    if slot == "gate":
        assert closed[1].abs().max() < 1e-6
        torch.testing.assert_close(opened[1], opened[0])
    if slot == "boundary_attention":
        torch.testing.assert_close(closed[1], closed[0])
        torch.testing.assert_close(opened[1], 2 * opened[0])


def test_boundaries_weigh_features_at_every_scale_they_are_predicted_at(config, spec):
    if config.decoder.boundary_attention is None:
        pytest.skip("no boundary attention")
    decoder, features, calls = make(config, spec).eval(), features_for(spec), []
    decoder.boundary_attention.register_forward_hook(lambda m, values, out: calls.append(out.shape))
    wanted = decoder(features)["classes"]
    assert len(calls) == sum(name.startswith("boundary") for name in config.decoder.heads)
    for left_out in range(len(calls)):
        seen = iter(range(len(calls)))
        hook = decoder.boundary_attention.register_forward_hook(
            lambda m, values, out, seen=seen, skip=left_out: (
                values[0] if next(seen) == skip else out
            )
        )
        found = decoder(features)["classes"]
        hook.remove()
        assert (found - wanted).abs().max() > 1e-3 * wanted.std(), calls[left_out]


def test_slots_do_the_same_in_training_and_inference(config, spec):
    """Given the same input: batch norm and dropout, which do not, lie elsewhere."""
    decoder, seen = make(config, spec), {}

    def keep(name, module, given, out):
        seen.setdefault(name, (module, given, out.detach().clone()))

    modules = dict(decoder.named_modules())
    slots = [n for n in modules if n.split(".")[-1] in SLOTS]
    handles = [modules[name].register_forward_hook(partial(keep, name)) for name in slots]
    decoder.train()(features_for(spec))
    for handle in handles:
        handle.remove()
    assert {name.split(".")[-1] for name in seen} == set(filled(config))
    for module, given, out in seen.values():
        torch.testing.assert_close(module.eval()(*given), out)


def test_an_empty_prediction_leaves_everything_finite(config, spec):
    """No foreground, no boundary: a softmax over no key would give NaN."""
    decoder, features = make(config, spec), features_for(spec)
    with torch.no_grad():
        for head in decoder.coarse_heads.values():
            head[-1].weight.zero_()
            head[-1].bias.fill_(-50.0)
    outputs = decoder(features)
    assert_shapes(config, outputs, 2, (48, 64))
    sum(logits.square().mean() for logits in outputs.values()).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_bfloat16_stays_close(config, spec):
    decoder, features = make(config, spec).eval(), features_for(spec)
    with torch.no_grad():
        exact = decoder(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = decoder(features)
    for head, logits in exact.items():
        away = (rough[head].float() - logits).norm() / logits.norm()
        assert away < 0.15, (head, float(away))


def test_a_state_dict_says_everything(config, spec):
    """Warm-up included: a decoder that is loaded decodes as the one that was saved."""
    saved = make(config, spec).eval()
    torch.manual_seed(7)
    loaded = build(config.decoder)(spec=spec, image_channels=IMAGE_CHANNELS, n_classes=N_CLASSES)
    loaded.load_state_dict(saved.state_dict(), strict=True)
    features = features_for(spec)
    with torch.no_grad():
        found, wanted = loaded.eval()(features), saved(features)
    for head, logits in wanted.items():
        torch.testing.assert_close(found[head], logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_it_compiles_without_a_graph_break(config, mode):
    spec = widths_of()
    decoder = getattr(make(config, spec), mode)()
    compiled = torch.compile(decoder, fullgraph=True, backend="eager")
    with torch.set_grad_enabled(mode == "train"):
        found, wanted = compiled(features_for(spec)), decoder(features_for(spec))
    for head, logits in wanted.items():
        torch.testing.assert_close(found[head], logits, atol=1e-5, rtol=1e-4)
    torch._dynamo.reset()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_state_decodes_alike_on_cuda(config, spec):
    here = make(config, spec).eval()
    there = make(config, spec).cuda()
    there.load_state_dict(here.state_dict(), strict=True)
    features = features_for(spec)
    moved = Features(tuple(level.cuda() for level in features.levels), features.image.cuda())
    with torch.no_grad():
        found, wanted = there.eval()(moved), here(features)
    for head, logits in wanted.items():
        torch.testing.assert_close(found[head].cpu(), logits, atol=1e-3, rtol=1e-2)


def test_every_slot_file_is_part_of_a_choice():
    used = {slot for name in choices("decoder") for slot in _slots(name)}
    assert used == set(choices("decoder/slots"))


def _slots(name):
    from omegaconf import OmegaConf

    from tissueseg.config import CONFIG_DIR

    file = plain(OmegaConf.load(CONFIG_DIR / "decoder" / f"{name}.yaml"))
    (listed,) = [d["slots@_here_"] for d in file["defaults"] if "slots@_here_" in d]
    return listed
