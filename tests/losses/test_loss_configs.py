"""Every loss in configs/ composes, builds and can be evaluated."""

import hydra
import pytest
import torch

from tissueseg.config import CONFIG_DIR
from tissueseg.errors import ConfigError

LOSSES = CONFIG_DIR / "loss"
NAMES = sorted({path.stem for path in LOSSES.glob("*.yaml")} - {"none"})
OF_HEADS = {
    "boundary": (0.05, {"boundary"}),
    "boundary_att": (0.05, {"boundary", "boundary_stride2", "boundary_stride4"}),
    "foreground_dice": (1.0, {"foreground"}),
    "foreground_ft": (1.0, {"foreground"}),
    "foreground_stride1": (0.4, {"foreground_stride1"}),
    "foreground_stride4": (0.4, {"foreground_stride4"}),
    "hv_mse": (2.5, {"hv"}),
    "hv_msge": (8.0, {"hv"}),
}


def build(name, class_weights="null", heads=(), changes=()):
    of_heads = [f"+loss/heads@loss.terms.{head}={head}" for head in heads]
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base=None):
        overrides = [f"+loss={name}", f"+class_weights={class_weights}", *of_heads, *changes]
        config = hydra.compose(overrides=overrides)
    return hydra.utils.instantiate(config.loss)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("class_weights", ["null", "[1, 4, 20]"])
def test_it_builds_and_has_a_gradient(name, class_weights, random_batch, random_outputs):
    value = build(name, class_weights)(random_outputs, random_batch)
    value.total.backward()
    assert value.total.isfinite()
    assert all(term > 0 for term in value.terms.values())


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("ce_dice", {"ce": 0.4, "dice": 0.4}),
        ("ce_dice_ft", {"ce": 0.4, "dice": 0.4, "focal_tversky": 0.2}),
        ("cellvit", {"ce": 0.5, "dice": 0.2, "focal_tversky": 0.5}),
    ],
)
def test_terms_of_classes(name, weights):
    loss = build(name)
    assert loss.weights == weights
    assert loss.heads == {"classes"}


def test_every_term_of_a_head_is_known_here():
    assert {path.stem for path in (LOSSES / "heads").glob("*.yaml")} == set(OF_HEADS)


@pytest.mark.parametrize(("name", "expected"), OF_HEADS.items())
def test_terms_of_heads_build_and_have_a_gradient(name, expected, random_batch, random_outputs):
    loss = build("none", heads=[name])
    assert (loss.weights[name], loss.heads) == expected
    loss(random_outputs, random_batch).total.backward()
    assert all(random_outputs[head].grad.any() for head in loss.heads)


def test_terms_of_heads_join_those_of_classes(random_batch, random_outputs):
    heads = ["foreground_dice", "foreground_ft", "hv_mse", "hv_msge"]
    loss = build("cellvit", heads=heads, changes=["loss.uncertainty=true"])
    assert list(loss.weights) == ["ce", "dice", "focal_tversky", *heads]
    assert loss.heads == set(loss.log_variances) == {"classes", "foreground", "hv"}
    assert loss(random_outputs, random_batch).total.isfinite()


def test_a_loss_without_any_term_is_refused():
    with pytest.raises(hydra.errors.InstantiationException) as error:
        build("none")
    assert isinstance(error.value.__cause__, ConfigError)


def test_class_weights_reach_the_cross_entropy():
    torch.testing.assert_close(
        build("ce_dice", "[1, 4, 20]").losses["ce"].weight, torch.tensor([1.0, 4.0, 20.0])
    )
