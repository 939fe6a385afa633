"""What VirTues reads from published weights, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from virtues_made import (
    CHANNELS,
    DIM,
    PATCH,
    data,
    image,
    make,
    marker_table,
    published,
    random,
    write,
)

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.virtues import VirTues, dual_spec
from tissueseg.errors import ConfigError, SpecMismatchError, WeightsError


@pytest.mark.parametrize("prefix", ["", "encoder."])
@pytest.mark.parametrize("layout", ["virtues", "virtues_dual"])
def test_both_layouts_load_with_and_without_prefix(tmp_path, layout, prefix):
    plain = make(tmp_path, layout)
    tensors = published(layout)
    path = write(tmp_path / "p.safetensors", tensors, prefix, **{"decoder.x": torch.ones(7)})
    encoder = make(tmp_path, layout, weights=path)
    assert encoder.digest() == plain.digest()
    accounting = encoder.spec.accounting
    assert accounting.layout == layout
    assert accounting.loaded + accounting.ignored == 7 + sum(t.numel() for t in tensors.values())
    assert accounting.loaded == sum(p.numel() for p in encoder.parameters())
    assert any("rotary" in reason for reason in accounting.reasons)


def test_sizes_come_from_the_weights_and_the_stride_follows(tmp_path):
    spec = make(tmp_path).spec
    assert (spec.channels, spec.patch_px, spec.stride_px) == ((DIM,) * 4, PATCH, PATCH)
    scaled = VirTues(
        EncoderSpec("virtues", ("sp",), (512,) * 4, 8, mpp=1.0),
        data(mpp=0.5),
        str(tmp_path / "w.safetensors"),
        marker_table(range(CHANNELS)),
        levels=(1, 2, 3, 4),
    )
    assert scaled.stride_px == 2 * PATCH
    assert scaled(image(size=(24, 40))).levels[0].shape == (2, DIM, 3, 5)


def test_marker_vectors_of_another_width_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"6 features.*\[5, 9\]"):
        make(tmp_path, markers=marker_table(range(CHANNELS), 9))


def test_marker_vectors_are_part_of_the_digest(tmp_path):
    assert make(tmp_path).digest() != make(tmp_path, channels=(0, 1, 2, 4, 3)).digest()


@pytest.mark.parametrize("modality", ["he", "he_sp"])
@pytest.mark.parametrize("trained", [False, True])
def test_he_without_he_parameters_is_refused_whatever_is_said(tmp_path, modality, trained):
    with pytest.raises(SpecMismatchError, match=r"no H&E parameters.*modality=sp"):
        make(tmp_path, "virtues", modality, trained_on_he=trained)


def test_he_that_nobody_vouched_for_is_refused(tmp_path):
    with pytest.raises(SpecMismatchError, match=r"encoder\.trained_on_he"):
        make(tmp_path, "virtues_dual", "he_sp")
    with pytest.raises(SpecMismatchError, match=r"encoder\.trained_on_he"):
        random(data=data("he"))


def test_the_dual_spec_counts_he_only_when_told():
    fields = {"name": "virtues_dual", "channels": (16,) * 4, "patch_px": 8}
    assert dual_spec(False, **fields).modalities == ("sp",)
    assert dual_spec(True, **fields).modalities == ("he", "sp", "he_sp")


def test_he_parameters_that_a_run_leaves_out_are_accounted_for(tmp_path):
    encoder = make(tmp_path, "virtues_dual", trained_on_he=True)
    assert any(
        "H&E" in reason and "he_marker" in reason for reason in encoder.spec.accounting.reasons
    )
    assert not any(name.startswith("he_") for name, _ in encoder.named_parameters())


def test_other_positions_are_refused(tmp_path):
    tensors = published()
    name = "encoder.2.encoder_layer.multi_head_attention.pos_emb.rope1d.sin"
    tensors[name] = tensors[name].roll(1, 0)
    with pytest.raises(WeightsError, match=r"encoder\.2\..*rope1d\.sin.*other positions"):
        make(tmp_path, weights=write(tmp_path / "x.safetensors", tensors))


def test_weights_without_positions_are_refused(tmp_path):
    tensors = {name: t for name, t in published().items() if "rope1d" not in name}
    with pytest.raises(WeightsError, match="no rotary tables"):
        make(tmp_path, weights=write(tmp_path / "x.safetensors", tensors))


@pytest.mark.parametrize(
    "lost",
    [
        "encoder.1.encoder_layer.multi_head_attention.W_k.weight",
        "encoder.0.encoder_layer.feedforward.0.weight",
        "encoder.3.encoder_layer.layernorm2.bias",
        "encoder.2.encoder_layer.multi_head_attention.pos_emb.rope1d.sin",
    ],
)
def test_an_incomplete_file_is_refused_by_name(tmp_path, lost):
    tensors = published()
    del tensors[lost]
    with pytest.raises(WeightsError, match=lost.replace(".", r"\.")):
        make(tmp_path, weights=write(tmp_path / "x.safetensors", tensors))


def test_a_lost_block_is_refused(tmp_path):
    tensors = {n: t for n, t in published().items() if not n.startswith("encoder.1.")}
    with pytest.raises(WeightsError, match=r"blocks \[0, 2, 3\]"):
        make(tmp_path, weights=write(tmp_path / "x.safetensors", tensors))


def test_parameters_nobody_knows_are_refused(tmp_path):
    tensors = published() | {"encoder.0.gate": torch.ones(3)}
    with pytest.raises(WeightsError, match=r"encoder\.0\.gate"):
        make(tmp_path, weights=write(tmp_path / "x.safetensors", tensors))


def test_weights_are_needed_unless_random_ones_are_asked_for(tmp_path):
    with pytest.raises(WeightsError, match="random_init=true"):
        make(tmp_path, weights=None)
    with pytest.raises(ConfigError, match=r"encoder\.weights.*random_init"):
        random(weights="some.safetensors")


def test_the_seed_alone_makes_random_weights():
    state = torch.random.get_rng_state()
    one = random()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    assert random().digest() == one.digest() != random(seed=1).digest()
    accounting = one.spec.accounting
    assert (accounting.loaded, accounting.ignored) == (0, 0)
    assert accounting.missing == sum(p.numel() for p in one.parameters())
    assert one.spec.label == "virtues_random_init"


@pytest.mark.parametrize(
    "levels", [(1, 2, 3), (1, 2, 3, 5), (0, 1, 2, 3), (1, 3, 2, 4), (1, 1, 2, 3)]
)
def test_levels_that_cannot_be_are_refused(levels):
    with pytest.raises(ConfigError, match=r"encoder\.levels.*1 to 4"):
        random(levels=levels)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"pattern": "hxhv"}, "pattern"), ({"heads": 3}, "heads"), ({"pattern": ""}, "pattern")],
)
def test_random_sizes_that_cannot_be_are_refused(options, key):
    with pytest.raises(ConfigError, match=f"encoder.{key}"):
        random(**options)


def test_it_is_frozen():
    encoder = random()
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder.train().training
    assert replace(encoder.spec, sha256=None) != encoder.spec
