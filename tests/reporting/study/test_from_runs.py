"""What is taken from runs: sums, means, and nothing where nothing was left."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from reports_made import CLASSES, CONFUSION, KEY, report, run

from tissueseg.reporting.study.from_runs import (
    bins_of,
    confusion_of,
    curve_of,
    guess_level,
    kept_of,
    run_score,
    shares_of,
    tissue_key,
    tissue_score,
)


@pytest.fixture
def runs(tmp_path):
    return [run(tmp_path, "a", "0", seed, 0.5) for seed in (0, 1)]


def with_side(record, **parts):
    return replace(record, metrics=record.metrics | {"test": record.metrics["test"] | parts})


def test_confusion_is_summed_over_runs_and_tissues(runs):
    np.testing.assert_array_equal(confusion_of(runs, "test"), 4 * CONFUSION)
    assert confusion_of(runs, "val") is None


def test_shares_are_of_all_known_pixels(runs):
    shares = shares_of(runs, "test")
    assert list(shares) == list(CLASSES)
    assert [truth for truth, _ in shares.values()] == pytest.approx([0.8, 0.12, 0.08, 0])
    assert [guessed for _, guessed in shares.values()] == pytest.approx([0.76, 0.15, 0.09, 0])


def test_runs_of_other_classes_are_not_added_up(runs):
    other = replace(runs[1], metrics=runs[1].metrics | {"classes": list("wxyz")})
    np.testing.assert_array_equal(confusion_of([runs[0], other], "test"), 2 * CONFUSION)


def test_a_curve_is_the_mean_between_the_lowest_and_the_highest_run(runs):
    curve = curve_of(runs, "train/loss")
    assert curve is not None
    np.testing.assert_allclose(curve.mean, np.linspace(2, 1, 4) + 0.25)
    np.testing.assert_allclose(curve.high - curve.low, 0.5)


def test_runs_of_other_lengths_share_their_epochs(tmp_path):
    pair = [run(tmp_path, "a", "0", seed, 0.5, epochs=epochs) for seed, epochs in ((0, 3), (1, 5))]
    curve = curve_of(pair, "train/loss")
    assert curve is not None
    assert curve.epochs.tolist() == [0, 1, 2, 3, 4]
    assert curve.mean[4] == pair[1].history["train/loss"][4]


def test_epochs_where_no_run_has_the_number_are_left_out(runs):
    curve = curve_of(runs, "val/dice/macro_foreground")
    assert curve is not None
    assert curve.epochs.tolist() == [1, 2, 3]
    assert curve_of(runs, "val/none") is None


def test_kept_epochs_carry_each_runs_own_number(runs):
    assert [e for e, _ in kept_of(runs, "train/loss")] == [2, 2]
    assert kept_of(runs, "train/loss")[1][1] == runs[1].history["train/loss"][2]


def test_bins_are_weighted_by_their_pixels(runs):
    other = runs[1].metrics["test"]["calibration"] | {
        "pixels": [0, 300],
        "confidence": [None, 0.9],
        "accuracy": [None, 0.9],
        "brier": 0.02,
    }
    bins = bins_of([runs[0], with_side(runs[1], calibration=other)], "test", "pixels")
    assert bins is not None
    assert bins.confidence[1] == pytest.approx((100 * 0.8 + 300 * 0.9) / 400)
    assert bins.accuracy[1] == pytest.approx((100 * 0.7 + 300 * 0.9) / 400)
    assert bins.ece == pytest.approx(0.025)
    assert bins.brier == pytest.approx(0.12)
    assert math.isnan(bins.confidence[0])


def test_cells_are_read_from_evaluations(runs):
    cells = {
        "reliability": {
            "low": [0],
            "high": [1],
            "cells": [8],
            "confidence": [0.5],
            "accuracy": [0.75],
        },
        "scores": {"brier_pooled": 0.3, "bpq_image": 0.61},
        "tissues": {"t0a": {"bpq_image": 0.4}},
    }
    evaluated = replace(runs[0], evaluations={"test": {"cells": cells}})
    bins = bins_of([evaluated, runs[1]], "test", "cells")
    assert bins is not None
    assert (bins.ece, bins.brier) == pytest.approx((0.25, 0.3))
    assert run_score(evaluated, "test/bpq_image") == 0.61
    assert tissue_score(evaluated, "test/bpq_image", "t0a") == 0.4
    assert bins_of(runs, "test", "cells") is None


@pytest.mark.parametrize(
    ("key", "score"),
    [(KEY, 0.5), ("test/dice/tumor", 0.5), ("test/dice/background", 0.9), ("test/dice/never", math.nan),
     ("test/dice_tissue/macro_foreground", 0.5), ("val/dice/macro", math.nan),
     ("test/iou/tumor", math.nan)],
)  # fmt: skip
def test_a_runs_score_is_found_by_its_name(runs, key, score):
    assert run_score(runs[0], key) == pytest.approx(score, nan_ok=True)


def test_scores_that_the_run_names_itself_come_first(runs):
    named = replace(runs[0], metrics=runs[0].metrics | {"metrics": {KEY: 0.123}})
    assert run_score(named, KEY) == 0.123


def test_tissues_are_ordered_by_the_measure_or_by_dice_where_they_lack_it(tmp_path):
    made = report(tmp_path)
    assert tissue_key(made) == KEY
    measure = replace(made.ranking.measure, key="test/bpq_image")
    other = replace(made, ranking=replace(made.ranking, measure=measure))
    assert tissue_key(other) == KEY


def test_a_guess_is_told_only_when_every_run_knows_it(tmp_path):
    made = report(tmp_path)
    assert guess_level(made) == pytest.approx(0.031)
    ignorant = with_side(made.runs[0], pooled={})
    assert math.isnan(guess_level(replace(made, runs=[ignorant, *made.runs[1:]])))
