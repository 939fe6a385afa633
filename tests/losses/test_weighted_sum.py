import pytest
import torch

from tissueseg.errors import ConfigError
from tissueseg.losses.boundary import BoundaryBCE
from tissueseg.losses.cross_entropy import CrossEntropy
from tissueseg.losses.dice import Dice
from tissueseg.losses.weighted_sum import WeightedSum


def test_adds_up_and_reports_terms_unweighted(random_batch, random_outputs):
    ce, dice = CrossEntropy(), Dice()
    loss = WeightedSum({"ce": {"weight": 0.4, "loss": ce}, "dice": {"weight": 2, "loss": dice}})
    value = loss(random_outputs, random_batch)
    a, b = ce(random_outputs, random_batch), dice(random_outputs, random_batch)
    torch.testing.assert_close(value.total, 0.4 * a + 2 * b)
    assert value.terms == {"ce": a, "dice": b}
    assert value.total.requires_grad
    assert not any(term.requires_grad for term in value.terms.values())


def test_terms_of_weight_zero_are_gone():
    loss = WeightedSum(
        {
            "ce": {"weight": 1.0, "loss": CrossEntropy()},
            "boundary": {"weight": 0.0, "loss": BoundaryBCE()},
        }
    )
    assert loss.heads == {"classes"}
    assert set(loss.losses) == {"ce"}


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_weights_that_make_no_sense(weight):
    with pytest.raises(ConfigError, match=r"loss\.terms\.ce\.weight"):
        WeightedSum({"ce": {"weight": weight, "loss": CrossEntropy()}})


@pytest.mark.parametrize("terms", [{}, {"ce": {"weight": 0.0, "loss": CrossEntropy()}}])
def test_a_loss_needs_a_term(terms):
    with pytest.raises(ConfigError, match="at least one"):
        WeightedSum(terms)


def test_everything_is_float32_under_autocast(random_batch, random_outputs):
    class Product(torch.nn.Module):
        head = "classes"

        def forward(self, outputs, batch):
            x = outputs["classes"].flatten(1)
            return (x @ x.T).sum()  # autocast would round this

    loss = WeightedSum({"product": {"weight": 1.0, "loss": Product()}})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(random_outputs, random_batch)
    assert value.total.dtype == torch.float32
    assert value.total == loss(random_outputs, random_batch).total
