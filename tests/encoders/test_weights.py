"""Checkpoints: their layouts are told by keys, and no parameter goes unsaid."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tissueseg.contracts import Normalisation
from tissueseg.encoders.weights import (
    CELLVIT_IGNORED,
    LAYOUTS,
    Checkpoint,
    he_normalisation,
    load,
    open_checkpoint,
    random_weights,
    recognise,
)
from tissueseg.errors import WeightsError, WeightsNotFoundError
from tissueseg.tensorfile import TensorFile

KEYS = {
    "virtues": ["patch_summary_token", "patch_encoder.weight", "prior_embedding_encoder.weight"],
    "virtues_dual": [
        "patch_summary_token",
        "multiplex_patch_encoder.weight",
        "protein_encoder.weight",
    ],
    "vit": ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"],
    "sam": ["pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.lin1.weight"],
}


def state(names, lead=""):
    return {lead + name: torch.ones(2) for name in names}


def recognised(tensors, **about):
    return recognise(TensorFile(None, tensors, about), "w.pth")


def checkpoint(tensors, others=None, **about):
    return Checkpoint("w.pth", "vit", tensors, others or {}, about)


def network():
    torch.manual_seed(0)
    return nn.ModuleDict({"stem": nn.Linear(3, 2), "block": nn.Linear(2, 2, bias=False)})


def its_weights():
    return {
        "stem.weight": torch.arange(6.0).view(2, 3),
        "stem.bias": torch.full((2,), 7.0),
        "block.weight": torch.eye(2),
    }


def refusal(call, kind=WeightsError):
    with pytest.raises(kind) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("lead", ["", "encoder."])
@pytest.mark.parametrize("layout", list(KEYS))
def test_a_layout_is_known_with_and_without_its_prefix(layout, lead):
    found = recognised({**state(KEYS[layout], lead), "decoder0.weight": torch.ones(1)}, arch="x")
    assert found.layout == layout
    inner = set(KEYS[layout])
    # Without a prefix nothing tells what belongs to the encoder: all of it is looked through.
    assert set(found.tensors) == (inner if lead else {*inner, "decoder0.weight"})
    assert set(found.others) == ({"decoder0.weight"} if lead else set())
    assert found.about == {"arch": "x"}


def test_every_layout_is_tested_here():
    assert [name for name, _, _ in LAYOUTS] == list(KEYS)


def test_blocks_that_are_called_encoder_themselves_are_no_prefix():
    names = [*KEYS["virtues_dual"], "encoder.0.encoder_layer.layernorm1.weight"]
    assert set(recognised(state(names)).tensors) == set(names)
    both = recognised(state(names, "encoder."))
    assert set(both.tensors) == set(names)


@pytest.mark.parametrize("layout", list(KEYS))
def test_a_layout_without_one_of_its_keys_is_unknown(layout):
    said = refusal(lambda: recognised(state(KEYS[layout][:-1])))
    assert "a layout this project does not know (keys such as" in said
    assert "virtues, virtues_dual, vit, sam" in said


def test_a_file_of_another_network_is_refused(tmp_path):
    path = str(tmp_path / "w.safetensors")
    save_file(state(KEYS["sam"], "encoder."), path)
    said = refusal(lambda: open_checkpoint(path, "cellvit_256", ["vit"]))
    assert "layout sam, but encoder=cellvit_256 wants vit" in said
    assert open_checkpoint(path, "cellvit_sam_b", ["vit", "sam"]).layout == "sam"


def test_no_weights_and_missing_weights_are_refused(tmp_path):
    said = refusal(lambda: open_checkpoint(None, "virtues", ["virtues"]))
    assert "encoder=virtues has no weights" in said
    assert "encoder.random_init=true" in said
    missing = str(tmp_path / "none.pth")
    assert missing in refusal(
        lambda: open_checkpoint(missing, "virtues", ["virtues"]), WeightsNotFoundError
    )


def test_every_parameter_is_copied_under_the_name_the_file_has_for_it():
    module, weights = network(), its_weights()
    weights["trunk.0.weight"] = weights.pop("block.weight")
    found = load(module, checkpoint(weights), {"block.weight": "trunk.0.weight"}, [])
    for name, tensor in its_weights().items():
        assert torch.equal(module.get_parameter(name), tensor)
    assert (found.layout, found.loaded, found.missing, found.ignored) == ("vit", 12, 0, 0)
    assert found.reasons == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_float32(dtype):
    module = network()
    load(module, checkpoint({n: t.to(dtype) for n, t in its_weights().items()}), {}, [])
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert torch.equal(module["stem"].weight, its_weights()["stem.weight"])


def test_what_stays_behind_is_counted_with_its_reason():
    encoders = its_weights() | {"norm.weight": torch.ones(4), "norm.bias": torch.ones(4)}
    others = {
        "decoder0.weight": torch.ones(1000, 3),
        "nuclei_type_maps_decoder.bias": torch.ones(5),
        "norm.weight": torch.ones(4),  # outside the encoder, by the same name
        "unheard_of": torch.ones(2),
    }
    found = load(network(), checkpoint(encoders, others), {}, CELLVIT_IGNORED)
    assert found.reasons == (
        "decoder0.*, nuclei_type_maps_decoder.* (3,005): CellViT's decoder, see decoder.weights",
        "unheard_of (2): not part of the encoder",
        "norm.* (12): the last norm: features are taken before it",
    )
    total = sum(t.numel() for t in [*encoders.values(), *others.values()])
    assert (found.loaded, found.ignored) == (12, total - 12)


def changed(change):
    weights = its_weights()
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (changed(lambda w: w.pop("stem.bias")), "lacks stem.bias of the encoder"),
        (changed(dict.clear), "lacks block.weight, stem.bias, stem.weight of the encoder"),
        (
            changed(lambda w: w.update({"stem.weight": torch.ones(3, 2)})),
            "stem.weight has shape [3, 2], wanted [2, 3]",
        ),
        (
            changed(lambda w: w["block.weight"].fill_(torch.nan)),
            "block.weight holds values that are not finite",
        ),
        (
            changed(lambda w: w["stem.bias"][:1].fill_(torch.inf)),
            "stem.bias holds values that are not finite",
        ),
        (
            changed(lambda w: w.update({f"blocks.{i}.weight": torch.ones(1) for i in range(6)})),
            "has blocks.0.weight, blocks.1.weight, blocks.2.weight, blocks.3.weight and 2 more which",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_copied(weights, says):
    module, untouched = network(), network()
    said = refusal(lambda: load(module, checkpoint(weights), {}, CELLVIT_IGNORED))
    assert said.startswith("w.pth")
    assert says in said
    for ours, before in zip(module.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(ours, before)


def test_a_rule_excuses_tensors_and_never_a_parameter():
    rules = [(r"stem\.", "no use")]
    said = refusal(lambda: load(network(), checkpoint({"block.weight": torch.eye(2)}), {}, rules))
    assert "lacks stem.bias, stem.weight" in said


def test_random_weights_are_all_missing():
    found = random_weights(network())
    assert (found.layout, found.loaded, found.missing, found.ignored) == ("random_init", 0, 12, 0)


MEAN, STD = "transformations.normalize.mean", "transformations.normalize.std"


def test_the_normalisation_a_checkpoint_states_replaces_the_default():
    default = Normalisation(sp_quantile=0.95)
    config = {MEAN: [0.1, 0.2, 0.3], STD: (0.4, 0.5, 0.6)}
    found = he_normalisation(checkpoint({}, config=config), default)
    assert found == Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), sp_quantile=0.95)
    half = he_normalisation(checkpoint({}, config={MEAN: [0.1, 0.2, 0.3]}), default)
    assert (half.he_mean, half.he_std) == ((0.1, 0.2, 0.3), default.he_std)


@pytest.mark.parametrize("about", [{}, {"config": {}}, {"config": "a path"}, {"config": None}])
def test_without_a_statement_the_default_stands(about):
    default = Normalisation((0.7, 0.6, 0.5))
    assert he_normalisation(checkpoint({}, **about), default) == default


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (MEAN, [0.5, 0.5]),
        (MEAN, 0.5),
        (MEAN, ["red", "green", "blue"]),
        (MEAN, [0.5, 0.5, float("nan")]),
        (STD, [0.5, 0.0, 0.5]),
        (STD, [0.5, 0.5, -0.5]),
        (STD, [0.5, 0.5, float("inf")]),
    ],
)
def test_a_normalisation_that_is_none_is_refused(key, value):
    config = checkpoint({}, config={key: value})
    said = refusal(lambda: he_normalisation(config, Normalisation()))
    assert said.startswith(f"w.pth: its config states {key.rpartition('.')[2]}={value!r}, wanted 3")


@pytest.mark.parametrize(
    "config",
    [
        {"transformations": {"normalize": {"mean": [0.1, 0.2, 0.3]}}},
        '{"transformations.normalize.mean": [0.1, 0.2, 0.3]}',  # as a converted file holds it
    ],
)
def test_a_normalisation_is_found_nested_and_in_json(config):
    found = he_normalisation(checkpoint({}, config=config), Normalisation())
    assert found.he_mean == (0.1, 0.2, 0.3)


def test_a_normalisation_of_0_to_255_is_refused():
    given = checkpoint({}, config={MEAN: [127, 127, 127]})
    assert "scaled to 0 … 1" in refusal(lambda: he_normalisation(given, Normalisation()))


def test_quantised_weights_are_refused():
    whole = {name: value.to(torch.int8) for name, value in network().state_dict().items()}
    said = refusal(lambda: load(network(), checkpoint(whole), {}, ()))
    assert "torch.int8, wanted floating point" in said
