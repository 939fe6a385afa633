"""Every loss in configs/ composes, builds and can be evaluated."""

import hydra
import pytest
import torch

from tissueseg.config import CONFIG_DIR

NAMES = sorted(path.stem for path in (CONFIG_DIR / "loss").glob("*.yaml"))


def build(name, class_weights="null"):
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base=None):
        config = hydra.compose(overrides=[f"+loss={name}", f"+class_weights={class_weights}"])
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
        ("ce_dice_boundary", {"ce": 0.4, "dice": 0.4, "boundary": 0.05}),
        (
            "ce_dice_ft_boundary",
            {"ce": 0.4, "dice": 0.4, "focal_tversky": 0.2, "boundary": 0.05},
        ),
    ],
)
def test_terms_and_heads(name, weights):
    loss = build(name)
    assert loss.weights == weights
    assert loss.heads == {"classes"} | ({"boundary"} if "boundary" in weights else set())


def test_class_weights_reach_the_cross_entropy():
    torch.testing.assert_close(
        build("ce_dice", "[1, 4, 20]").losses["ce"].weight, torch.tensor([1.0, 4.0, 20.0])
    )
