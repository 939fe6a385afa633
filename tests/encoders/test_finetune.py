"""Fine-tuning: what was asked for learns, nothing else does, and it is put back as it was."""

from functools import cache

import pytest
import torch
from safetensors.torch import save_file
from stores import PANEL, compose, data_spec

from tissueseg.encoders.finetune import Finetune, restore, tune, tuned_state
from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.features import build_encoder

SMALL = {
    "levels": [1, 2, 3, 4],
    "heads": 4,
    "hidden": 48,
    "pattern": "hvhvhv",  # two blocks more than there are levels
    "grid": 16,
    "window": 3,
    "swiglu_hidden": 40,
    "random_init": True,
}
ENCODERS = ("tiny", "cellvit_256", "cellvit_sam_b", "cellvit_virchow2", "virtues", "pair")
MODALITY = {"tiny": "he_sp", "virtues": "sp", "pair": "he_sp"}
WAYS = (Finetune(blocks=2), Finetune(lora=3))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("markers") / "table.safetensors"
    save_file({c.uniprot: torch.randn(640) for c in PANEL}, path)
    return path


@pytest.fixture(scope="module")
def make(table):
    @cache
    def composed(name):
        return compose("setting=demo", f"encoder={name}", f"markers.table={table}")

    def built(name, **options):
        config = composed(name).copy()
        for node in (config.encoder, config.encoder.get("he"), config.encoder.get("sp")):
            if node is None:
                continue
            for key, value in (SMALL | options).items():
                if key in node:
                    node[key] = value
            if "channels" in node.spec:
                node.spec.channels = [32] * 4
        return build_encoder(config, data_spec(MODALITY.get(name, "he")))

    return built


def image_for(encoder, batch=2):
    sides = (side * encoder.stride_px for side in (2, 3))
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(batch, encoder.data.image_channels, *sides, generator=drawn)


def levels(encoder, image):
    return encoder(image).levels


def loss_of(found):
    return sum((level**2).mean() for level in found)


def learning(encoder):
    return {n: p for n, p in encoder.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("how", WAYS, ids=lambda h: h.said)
@pytest.mark.parametrize("name", ENCODERS)
def test_what_learns_gets_gradients_and_nothing_else_changes(make, name, how):
    encoder, untouched = make(name), make(name)
    image = image_for(encoder)
    published = encoder.spec.sha256
    tune(encoder, how, seed=0)
    for one, two in zip(levels(encoder, image), levels(untouched, image), strict=True):
        torch.testing.assert_close(
            one, two, atol=1e-5, rtol=1e-4
        )  # B is zero, blocks are as they were
    optimizer = torch.optim.SGD(learning(encoder).values(), lr=0.1)
    before = {n: t.clone() for n, t in encoder.state_dict().items()}
    for _ in range(2):  # with B = 0 the first step moves B alone
        optimizer.zero_grad()
        loss_of(levels(encoder, image)).backward()
        optimizer.step()
    moved = {n for n, t in encoder.state_dict().items() if not torch.equal(t, before[n])}
    still = {n for n, p in learning(encoder).items() if p.grad is None or not p.grad.any()}
    assert not still
    assert moved == set(learning(encoder))
    assert encoder.spec.sha256 == published
    assert not any(module.training for module in encoder.train().modules())


@pytest.mark.parametrize("name", ENCODERS)
def test_the_last_blocks_are_those_that_features_come_through(make, name):
    encoder = make(name)
    tune(encoder, Finetune(blocks=1), seed=0)
    found = {n.partition("blocks.")[0] + n.partition("blocks.")[2][0] for n in learning(encoder)}
    assert found == ({"he.3", "sp.3"} if name == "pair" else {"3"})


@pytest.mark.parametrize("name", ENCODERS)
def test_low_rank_updates_are_in_every_attention_that_features_come_through(make, name):
    encoder = make(name)
    tune(encoder, Finetune(lora=2), seed=0)
    found = {n.partition(".qkv.")[0] for n in learning(encoder)}
    parts = ("he.", "sp.") if name == "pair" else ("",)
    attention = {True: "attention", False: "attn"}
    wanted = {
        f"{part}blocks.{b}.{attention[name == 'virtues' or part == 'sp.']}"
        for part in parts
        for b in range(4)
    }
    assert found == wanted
    assert all(n.endswith(("lora_a", "lora_b")) for n in learning(encoder))


@pytest.mark.parametrize("name", ["tiny", "virtues"])
def test_no_graph_is_built_before_the_first_block_that_learns(make, name):
    encoder = make(name)
    tune(encoder, Finetune(blocks=2), seed=0)
    asked = [level.requires_grad for level in levels(encoder, image_for(encoder))]
    assert asked == [False, False, True, True]
    with torch.no_grad():
        assert not any(level.requires_grad for level in levels(encoder, image_for(encoder)))


def test_gradients_are_those_of_finite_differences(make):
    encoder = make("virtues").double()
    tune(encoder, Finetune(lora=1), seed=0)
    image = image_for(encoder, batch=1).double()
    picked = list(learning(encoder).values())
    drawn = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in picked:
            p.copy_(0.1 * torch.randn(p.shape, generator=drawn, dtype=p.dtype))
    ways = [torch.randn(p.shape, generator=drawn, dtype=p.dtype) for p in picked]
    value = loss_of(levels(encoder, image))
    value.backward()
    slope = sum(float((p.grad * way).sum()) for p, way in zip(picked, ways, strict=True))
    step, ends = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, way in zip(picked, ways, strict=True):
                p.add_(way, alpha=sign * step)
            ends.append(float(loss_of(levels(encoder, image))))
            for p, way in zip(picked, ways, strict=True):
                p.sub_(way, alpha=sign * step)
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_first_values_hang_on_the_seed_alone(make):
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(made))
        state = torch.random.get_rng_state()
        encoder = make("tiny")
        tune(encoder, Finetune(lora=2), seed)
        made.append(tuned_state(encoder))
        assert torch.equal(torch.random.get_rng_state(), state)
    same, other = (all(torch.equal(made[0][n], m[n]) for n in m) for m in made[1:])
    assert (same, other) == (True, False)


@pytest.mark.parametrize("how", WAYS, ids=lambda h: h.said)
@pytest.mark.parametrize("name", ["cellvit_256", "pair"])
def test_what_was_learnt_is_put_back_exactly(make, name, how):
    one, two = make(name), make(name)
    for encoder, seed in ((one, 0), (two, 5)):
        tune(encoder, how, seed)
    with torch.no_grad():
        for p in learning(one).values():
            p.add_(0.1 * torch.randn(p.shape))
    state = tuned_state(one)
    assert state.keys() == learning(one).keys()
    image = image_for(one)
    assert not torch.equal(levels(one, image)[-1], levels(two, image)[-1])
    restore(two, state)
    for a, b in zip(levels(one, image), levels(two, image), strict=True):
        assert torch.equal(a, b)


def test_what_was_learnt_otherwise_is_refused(make):
    one, two = make("tiny"), make("tiny")
    tune(one, Finetune(lora=2), 0)
    tune(two, Finetune(lora=4), 0)
    with pytest.raises(SpecMismatchError, match=r"8 tuned parameters, such as blocks\.0.*finetune"):
        restore(two, tuned_state(one))


def test_an_encoder_that_is_left_alone_stays_as_it_is(make):
    encoder = make("tiny")
    tune(encoder, Finetune(), 0)
    assert encoder.digest() == encoder.spec.sha256
    assert (learning(encoder), encoder.tuned, tuned_state(encoder)) == ({}, "", {})
    assert not levels(encoder, image_for(encoder))[-1].requires_grad


@pytest.mark.parametrize("name", ["tiny", "pair"])
def test_it_says_what_learns_and_counts_the_published_parameters(make, name):
    plain, tuned = make(name), make(name)
    tune(tuned, Finetune(lora=2), 0)
    own = len(learning(tuned)) * 2 * (32 + 96) // 2  # A (2, 32) and B (96, 2) of each
    said = tuned.describe()
    assert said[0] == plain.describe()[0]
    told = [line for line in said if "finetune.lora=2" in line]
    counts = [int(line.split(": ")[1].split()[0].replace(",", "")) for line in told]
    assert sum(counts) == own
    assert len(counts) == (2 if name == "pair" else 1)


def test_chunks_change_nothing_of_the_gradients(make):
    grads = []
    for chunk in (None, 1):
        encoder = make("cellvit_256", chunk=chunk)
        tune(encoder, Finetune(blocks=1), 0)
        loss_of(levels(encoder, image_for(encoder))).backward()
        grads.append([p.grad for p in learning(encoder).values()])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("name", ["tiny", "cellvit_sam_b", "virtues"])
def test_in_bfloat16_gradients_stay_close(make, name):
    encoder = make(name)
    tune(encoder, Finetune(blocks=1), 0)
    grads = []
    for rough in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=rough):
            loss_of(levels(encoder, image_for(encoder))).backward()
        grads.append(torch.cat([p.grad.flatten() for p in learning(encoder).values()]))
    exact, found = grads
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 0.05 * exact.norm()


def test_a_validation_before_a_step_does_not_spoil_it(make):
    encoder = make("cellvit_256")
    tune(encoder, Finetune(lora=2), 0)
    image = image_for(encoder)
    with torch.inference_mode():
        levels(encoder, image)
    loss_of(levels(encoder, image)).backward()
    assert all(p.grad is not None for p in learning(encoder).values())


def test_more_blocks_than_there_are_are_refused(make):
    with pytest.raises(ConfigError, match=r"finetune\.blocks=5, but .*virtues has 4 blocks"):
        tune(make("virtues"), Finetune(blocks=5), 0)


@pytest.mark.parametrize("name", ["tiny", "virtues"])
def test_a_rank_as_wide_as_a_projection_is_refused(make, name):
    encoder = make(name)
    width = encoder.spec.channels[-1]
    with pytest.raises(ConfigError, match=rf"encoder={name}.* {width} wide: choose a rank below"):
        tune(encoder, Finetune(lora=width), 0)
    assert encoder.tuned == ""
