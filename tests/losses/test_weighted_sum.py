import pytest
import torch
from torch import nn

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.losses.binary_cross_entropy import BinaryCrossEntropy
from tissueseg.losses.cross_entropy import CrossEntropy
from tissueseg.losses.deep_supervision import DeepSupervision
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
            "boundary": {"weight": 0.0, "loss": BinaryCrossEntropy("boundary")},
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
        heads = ("classes",)

        def forward(self, outputs, batch):
            x = outputs["classes"].flatten(1)
            return (x @ x.T).sum()  # autocast would round this

    loss = WeightedSum({"product": {"weight": 1.0, "loss": Product()}})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(random_outputs, random_batch)
    assert value.total.dtype == torch.float32
    assert value.total == loss(random_outputs, random_batch).total


def several(uncertainty):
    """Two sums of two terms each: classes, and boundaries at two scales."""
    bce = {"bce": {"factor": 1.0, "loss": BinaryCrossEntropy}}
    return WeightedSum(
        {
            "ce": {"weight": 0.4, "loss": CrossEntropy()},
            "dice": {"weight": 2.0, "loss": Dice()},
            "edges": {"weight": 0.5, "loss": DeepSupervision({"boundary_stride4": 1.0}, bce)},
            "edge_dice": {"weight": 1.0, "loss": Dice(head="boundary")},
        },
        uncertainty,
    )


def test_there_is_nothing_to_learn_without_uncertainty():
    assert not list(several(False).parameters())
    assert not several(False).state_dict()


def test_uncertainty_begins_as_the_plain_sum(random_batch, random_outputs):
    loss, plain = several(True), several(False)(random_outputs, random_batch)
    value = loss(random_outputs, random_batch)
    assert set(loss.log_variances) == {"classes", "boundary"}
    assert value.total.item() == pytest.approx(plain.total.item())
    assert value.terms == plain.terms


def test_a_term_on_two_heads_learns_both():
    class Both(nn.Module):
        heads = ("hv", "boundary_stride4", "boundary")

    assert WeightedSum({"both": {"weight": 1, "loss": Both()}}).groups == {"both": "boundary+hv"}


def test_uncertainty_weighs_what_is_learnt_as_a_whole(random_batch, random_outputs):
    loss = several(True)
    with torch.no_grad():
        loss.log_variances["classes"].fill_(2.0)
        loss.log_variances["boundary"].fill_(-1.0)
    value = loss(random_outputs, random_batch)
    t = value.terms
    classes = 0.4 * t["ce"] + 2.0 * t["dice"]
    boundary = 0.5 * t["edges"] + t["edge_dice"]
    e = torch.tensor(1.0).exp()
    torch.testing.assert_close(
        value.total.detach(), classes / e**2 + 2.0 / 2 + boundary * e - 1.0 / 2
    )
    value.total.backward()
    torch.testing.assert_close(loss.log_variances["classes"].grad, 0.5 - classes / e**2)
    assert random_outputs["classes"].grad.any()


def test_uncertainty_rests_at_the_logarithm_of_twice_the_sum(random_batch, random_outputs):
    loss = several(True)
    terms = loss(random_outputs, random_batch).terms
    with torch.no_grad():
        best = (2 * (0.4 * terms["ce"] + 2.0 * terms["dice"])).log()
        loss.log_variances["classes"].copy_(best)
    loss(random_outputs, random_batch).total.backward()
    assert loss.log_variances["classes"].grad.item() == pytest.approx(0, abs=1e-6)


def test_batches_of_which_nothing_is_known_teach_no_certainty(make_batch, random_outputs):
    loss = several(True)
    value = loss(random_outputs, make_batch(torch.full((2, 8, 8), IGNORE)))
    value.total.backward()
    assert value.total == 0
    assert all(s.grad == 0 for s in loss.log_variances.values())


def test_a_term_that_is_null_is_left_out():
    loss = WeightedSum({"ce": None, "dice": {"weight": 1.0, "loss": Dice()}})
    assert list(loss.losses) == ["dice"]


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (None, r"loss\.terms=null, wanted a name, weight and loss a term"),
        ({"ce": None}, r"loss\.terms has no term of positive weight"),
        ({"ce": 3}, r"loss\.terms\.ce=3, wanted weight and loss, or null"),
        ({"ce": {"weight": 1.0}}, r"loss\.terms\.ce holds weight; wanted weight and loss"),
        ({"ce": {"weight": 1.0, "loss": None}}, r"loss\.terms\.ce\.loss=null, wanted a _target_"),
        (
            {"ce": {"weight": 1.0, "loss": nn.Identity()}},
            r"terms\.ce\.loss is Identity, which names",
        ),
    ],
)
def test_terms_of_another_form_are_refused(terms, said):
    with pytest.raises(ConfigError, match=said):
        WeightedSum(terms)


@pytest.mark.parametrize("uncertainty", ["yes", None, 1])
def test_uncertainty_is_on_or_off(uncertainty):
    with pytest.raises(ConfigError, match=f"loss.uncertainty={uncertainty}, wanted true or false"):
        several(uncertainty)
