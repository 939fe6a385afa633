"""What every loss term promises, whatever it measures."""

import importlib
import pkgutil
from functools import partial

import pytest
import torch

from tissueseg import losses
from tissueseg.contracts import IGNORE
from tissueseg.heads import base_head
from tissueseg.losses.base import HeadLoss
from tissueseg.losses.binary_cross_entropy import BinaryCrossEntropy
from tissueseg.losses.cross_entropy import CrossEntropy
from tissueseg.losses.deep_supervision import DeepSupervision
from tissueseg.losses.dice import Dice
from tissueseg.losses.focal_tversky import FocalTversky
from tissueseg.losses.hv_gradient import HVGradient
from tissueseg.losses.hv_mse import HVMSE

BCE_AND_DICE = {
    "bce": {"factor": 1.0, "loss": BinaryCrossEntropy},
    "dice": {"factor": 0.5, "loss": partial(Dice, epsilon=1.0)},
}
LOSSES = {
    "ce": CrossEntropy(),
    "ce_weighted": CrossEntropy([1.0, 5.0, 20.0]),
    "dice": Dice(),
    "dice_foreground": Dice(head="foreground"),
    "focal_tversky": FocalTversky(),
    "focal_tversky_steep": FocalTversky(gamma=0.75),
    "focal_tversky_boundary": FocalTversky(head="boundary"),
    "bce": BinaryCrossEntropy("boundary"),
    "bce_weighted": BinaryCrossEntropy("foreground", pos_weight=8.0),
    "hv_mse": HVMSE(),
    "hv_mse_focus": HVMSE(focus=True),
    "hv_gradient": HVGradient(),
    "hv_gradient_difference": HVGradient("difference"),
    "one_scale": DeepSupervision({"foreground_stride1": 1.0}, BCE_AND_DICE),
}
COARSE = {
    "bce_coarse": BinaryCrossEntropy("foreground_stride4"),
    "dice_coarse": Dice(head="boundary_stride4"),
    "focal_tversky_coarse": FocalTversky(head="boundary_stride2"),
    "deep_supervision": DeepSupervision(
        {"boundary_stride4": 0.25, "boundary_stride2": 0.5, "boundary": 1.0}, BCE_AND_DICE
    ),
}
LOGIT = 200.0  # softmax and sigmoid are exact there


def cases(made):
    return {"argvalues": made.values(), "ids": made.keys()}


def test_every_loss_of_the_package_is_held_to_it():
    for module in pkgutil.iter_modules(losses.__path__):
        importlib.import_module(f"{losses.__name__}.{module.name}")
    held = {type(loss) for loss in [*LOSSES.values(), *COARSE.values()]}
    assert not {cls.__name__ for cls in HeadLoss.__subclasses__()} - {cls.__name__ for cls in held}


every_loss = pytest.mark.parametrize("loss", **cases(LOSSES | COARSE))
fine_loss = pytest.mark.parametrize("loss", **cases(LOSSES))


def truth_outputs(batch):
    one_hot = torch.nn.functional.one_hot(batch.classes.where(batch.classes != IGNORE, 0), 3)
    edges, inside = (LOGIT * (2 * batch.targets[h] - 1) for h in ("boundary", "foreground"))
    logits = {
        "classes": LOGIT * one_hot.permute(0, 3, 1, 2).float(),
        "boundary": edges,
        "foreground": inside,
        "foreground_stride1": inside.clone(),
        "hv": batch.targets["hv"].clone(),
    }
    return {head: x.requires_grad_() for head, x in logits.items()}


def value_and_gradients(loss, outputs, batch):
    value = loss(outputs, batch)
    gradients = torch.autograd.grad(value, [outputs[head] for head in loss.heads])
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    return value.detach(), gradients


@every_loss
def test_it_says_which_outputs_it_reads(loss, random_batch, random_outputs):
    assert isinstance(loss.heads, tuple)
    only = {head: random_outputs[head] for head in loss.heads}
    torch.testing.assert_close(loss(only, random_batch), loss(random_outputs, random_batch))


@fine_loss
def test_nothing_to_pay_at_the_truth(loss, random_batch):
    value, _ = value_and_gradients(loss, truth_outputs(random_batch), random_batch)
    assert value.abs() < 1e-4


@every_loss
def test_the_wrong_answer_costs_more(loss, random_batch, random_outputs):
    value, gradients = value_and_gradients(loss, random_outputs, random_batch)
    assert value > 0.1
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@every_loss
@pytest.mark.parametrize("fill", [0, IGNORE])
def test_empty_and_unlabelled_tiles_are_finite(loss, make_batch, random_outputs, fill):
    batch = make_batch(torch.full((2, 8, 8), fill))
    value, gradients = value_and_gradients(loss, random_outputs, batch)
    if fill == IGNORE:
        assert value == 0
        assert not any(gradient.any() for gradient in gradients)


@every_loss
def test_unknown_targets_are_finite_and_cost_nothing(loss, random_batch, random_outputs):
    targets = {head: torch.full_like(t, float("nan")) for head, t in random_batch.targets.items()}
    batch = random_batch._replace(targets=targets)
    value, gradients = value_and_gradients(loss, random_outputs, batch)
    if base_head(loss.heads[0]) != "classes":
        assert value == 0
        assert not any(gradient.any() for gradient in gradients)


@every_loss
@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("fill", [None, 0, 1, IGNORE])
def test_extreme_logits_are_finite(loss, make_batch, random_batch, random_outputs, size, fill):
    batch = random_batch if fill is None else make_batch(torch.full((2, 8, 8), fill))
    extreme = {k: (size * x.detach().sign()).requires_grad_() for k, x in random_outputs.items()}
    value_and_gradients(loss, extreme, batch)
    flat = {k: torch.full_like(x, size).requires_grad_() for k, x in random_outputs.items()}
    value_and_gradients(loss, flat, batch)


@fine_loss
def test_ignored_pixels_have_no_say(loss, random_batch, random_outputs):
    ignored = (random_batch.classes == IGNORE).unsqueeze(1)
    value, gradients = value_and_gradients(loss, random_outputs, random_batch)
    fine = {k: x for k, x in random_outputs.items() if x.shape[-1] == 8}
    other = {k: (x + 7 * ignored * x.square()).detach() for k, x in fine.items()}
    torch.testing.assert_close(loss(other, random_batch), value)
    assert not any(gradient[ignored.expand_as(gradient)].any() for gradient in gradients)


@every_loss
def test_half_precision_logits_are_raised_to_float32(loss, random_batch, random_outputs):
    low = {k: x.detach().bfloat16() for k, x in random_outputs.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(low, random_batch)
    exact = loss({k: x.float() for k, x in low.items()}, random_batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact)


@every_loss
def test_nothing_of_a_term_is_trained_or_saved(loss):
    assert not list(loss.parameters())
    assert not loss.state_dict()
