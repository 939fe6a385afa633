"""What every loss term promises, whatever it measures."""

import pytest
import torch

from tissueseg.contracts import IGNORE
from tissueseg.losses.boundary import BoundaryBCE
from tissueseg.losses.cross_entropy import CrossEntropy
from tissueseg.losses.dice import Dice
from tissueseg.losses.focal_tversky import FocalTversky

LOSSES = {
    "ce": CrossEntropy(),
    "ce_weighted": CrossEntropy([1.0, 5.0, 20.0]),
    "dice": Dice(),
    "focal_tversky": FocalTversky(),
    "focal_tversky_steep": FocalTversky(gamma=0.75),
    "boundary": BoundaryBCE(),
    "boundary_weighted": BoundaryBCE(pos_weight=8.0),
}
LOGIT = 200.0  # softmax and sigmoid are exact there


@pytest.fixture(params=LOSSES.values(), ids=LOSSES.keys())
def loss(request):
    return request.param


def truth_outputs(batch):
    one_hot = torch.nn.functional.one_hot(batch.classes.where(batch.classes != IGNORE, 0), 3)
    logits = LOGIT * one_hot.permute(0, 3, 1, 2).float()
    edges = LOGIT * (2 * batch.targets["boundary"] - 1)
    return {"classes": logits.requires_grad_(), "boundary": edges.requires_grad_()}


def value_and_gradient(loss, outputs, batch):
    value = loss(outputs, batch)
    (gradient,) = torch.autograd.grad(value, outputs[loss.head])
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient.isfinite().all()
    return value.detach(), gradient


def test_nothing_to_pay_at_the_truth(loss, random_batch):
    value, _ = value_and_gradient(loss, truth_outputs(random_batch), random_batch)
    assert value.abs() < 1e-4


def test_the_wrong_answer_costs_more(loss, random_batch, random_outputs):
    value, gradient = value_and_gradient(loss, random_outputs, random_batch)
    assert value > 0.1
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("fill", [0, IGNORE])
def test_empty_and_unlabelled_tiles_are_finite(loss, make_batch, random_outputs, fill):
    batch = make_batch(torch.full((2, 8, 8), fill))
    value, gradient = value_and_gradient(loss, random_outputs, batch)
    if fill == IGNORE:
        assert value == 0
        assert not gradient.any()


def test_ignored_pixels_have_no_say(loss, random_batch, random_outputs):
    ignored = (random_batch.classes == IGNORE).unsqueeze(1)
    value, gradient = value_and_gradient(loss, random_outputs, random_batch)
    other = {k: (x + 7 * ignored * x.square()).detach() for k, x in random_outputs.items()}
    torch.testing.assert_close(loss(other, random_batch), value)
    assert not gradient[ignored.expand_as(gradient)].any()


def test_half_precision_logits_are_raised_to_float32(loss, random_batch, random_outputs):
    low = {k: x.detach().bfloat16() for k, x in random_outputs.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(low, random_batch)
    exact = loss({k: x.float() for k, x in low.items()}, random_batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact)
