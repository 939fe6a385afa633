"""Scores of a side against numbers worked out by hand."""

import math

import numpy as np
import pytest

from tissueseg.reporting.scores import keyed_scores, run_metrics, side_scores

# [truth, prediction]; class 2 is in neither truth nor prediction of `a`, class 3 nowhere.
A = [[6, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
B = [[4, 0, 0, 0], [0, 3, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
TRAIN = [60, 20, 20, 0]


@pytest.fixture
def scores():
    return side_scores(np.array([A, B]), ("a", "b"), TRAIN)


def test_pooled_over_all_pixels_of_all_tissues(scores):
    pooled = scores["pooled"]
    dice = [2 * 10 / (12 + 11), 2 * 4 / (6 + 6), 2 * 2 / (2 + 3)]
    iou = [10 / 13, 4 / 8, 2 / 3]
    assert pooled["dice"][:3] == pytest.approx(dice)
    assert pooled["iou"][:3] == pytest.approx(iou)
    assert math.isnan(pooled["dice"][3])
    assert pooled["truth_share"] == pytest.approx([12 / 20, 6 / 20, 2 / 20, 0])
    assert pooled["macro_dice"] == pytest.approx(sum(dice) / 3)
    assert pooled["macro_dice_foreground"] == pytest.approx(sum(dice[1:]) / 2)
    assert pooled["macro_iou_foreground"] == pytest.approx(sum(iou[1:]) / 2)


def test_each_tissue_on_its_own(scores):
    assert list(scores["tissues"]) == ["a", "b"]
    a, b = scores["tissues"].values()
    assert a["dice"][:2] == pytest.approx([2 * 6 / (8 + 7), 2 * 1 / (2 + 3)])
    assert math.isnan(a["dice"][2])
    assert a["macro_dice_foreground"] == pytest.approx(0.4)
    assert b["dice"][:3] == pytest.approx([1, 6 / 7, 4 / 5])


def test_guessing_from_the_training_prior(scores):
    """p of the training, q of the truth: 2pq / (p + q)."""
    prior = [2 * 0.6 * 0.6 / 1.2, 2 * 0.2 * 0.3 / 0.5, 2 * 0.2 * 0.1 / 0.3]
    assert scores["pooled"]["prior_dice"][:3] == pytest.approx(prior)
    assert math.isnan(scores["pooled"]["prior_dice"][3])
    assert scores["pooled"]["prior_macro_dice_foreground"] == pytest.approx(sum(prior[1:]) / 2)


def test_every_tissue_needs_a_name():
    with pytest.raises(ValueError, match="argument"):
        side_scores(np.array([A, B]), ("a",), TRAIN)


CLASSES = ("background", "tumor", "stroma", "rare")


def test_every_score_has_a_name(scores):
    scores |= {
        "study": {"dice_study_batch4": 0.5},
        "calibration": {"pixels": [3], "ece": 0.25, "brier": 0.75},
        "cells": {"scores": {"bpq_image": 0.125}},
    }
    keyed = keyed_scores("test", CLASSES, scores)
    assert keyed["test/dice/tumor"] == pytest.approx(2 * 4 / (6 + 6))
    assert keyed["test/dice_study_batch4"] == 0.5
    assert keyed["test/calibration/ece"] == 0.25
    assert keyed["test/calibration/brier"] == 0.75
    assert keyed["test/bpq_image"] == 0.125
    assert not [name for name in keyed if "pixels" in name]


def test_what_was_not_scored_has_no_name(scores):
    keyed = keyed_scores("val", CLASSES, scores)
    assert {name.split("/")[1] for name in keyed} == {"dice", "iou"}


def test_metrics_hold_sides_in_full_and_flat(scores):
    about = {"run": "r", "classes": list(CLASSES)}
    found = run_metrics(about, {"val": scores, "test": scores})
    assert found["run"] == "r"
    assert found["val"] is scores
    wanted = keyed_scores("val", CLASSES, scores) | keyed_scores("test", CLASSES, scores)
    assert found["metrics"] == pytest.approx(wanted, nan_ok=True)
    assert found["metrics"]["val/dice/macro"] == found["metrics"]["test/dice/macro"]
