"""Passes scored from what the module's step hands on: the study's Dice, and calibration of pixels."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from tissueseg.contracts import IGNORE, Batch
from tissueseg.metrics.calibration import BINS, brier, calibration_counts, ece
from tissueseg.modules.scoring import (
    PassScore,
    PixelCalibration,
    StudyDice,
    count,
    pixel_calibration_counts,
)

TRUTH = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, IGNORE]]])
PREDICTED = torch.tensor([[[0, 1, 1, 1]], [[0, 0, 2, 2]]])


def batch(classes: torch.Tensor, labels: torch.Tensor | None = None) -> Batch:
    nothing = torch.zeros(len(classes), 2)
    labels = (classes % IGNORE > 0).int() if labels is None else labels
    return Batch(nothing, nothing, classes, labels, {}, nothing, nothing, nothing)


def passed(study: PassScore, outputs: dict[str, torch.Tensor], given: Batch) -> None:
    study.on_validation_batch_end(Mock(), Mock(), outputs, given, 0)


def logits(classes: torch.Tensor) -> dict[str, torch.Tensor]:
    onehot = torch.nn.functional.one_hot(classes, 4).movedim(-1, 1).float()
    return {"classes": 5 * onehot - 2}


def test_a_batch_is_scored_by_its_most_likely_classes() -> None:
    study = StudyDice(4, 2)
    passed(study, logits(PREDICTED), batch(TRUTH))
    # Background 2·3 / (5 + 3), class 1: 2·2 / (2 + 3), class 2: 0, class 3 is nowhere: 1.
    assert study.scores() == {"dice_study_batch2": pytest.approx(2.55 / 4)}


def test_batches_are_averaged() -> None:
    study = StudyDice(4, 1)
    for i in (0, 1):
        passed(study, logits(PREDICTED[i : i + 1]), batch(TRUTH[i : i + 1]))
    # First tile: 2/3, 4/5, 1, 1. Second: 2·2 / (3 + 2), 1, 0, 1.
    wanted = ((2 / 3 + 0.8) / 2 + 0.9 + 0.5 + 1) / 4
    assert study.scores() == {"dice_study_batch1": pytest.approx(wanted)}


def test_without_a_class_head_nuclei_are_scored() -> None:
    study = StudyDice(2, 2)
    foreground = torch.tensor([[[[-1.0, 0, 3, 2]]], [[[-1.0, -1, 3, 4]]]])
    labels = torch.tensor([[[0, 0, 7, 7]], [[0, 0, 9, 0]]])
    passed(study, {"foreground": foreground}, batch(TRUTH, labels))
    # Of 4 known pixels of background one is taken for nucleus: 2·3 / (4 + 3), and 2·3 / (3 + 4).
    assert study.scores() == {"dice_study_batch2": pytest.approx(6 / 7)}


def test_a_validation_pass_is_scored_batch_by_batch(make_run: Callable) -> None:
    run = make_run()
    scored = len(run.data.spec.classes)
    study = StudyDice(scored, run.config.data.batch_size)
    seen = Mock(wraps=study.see)
    study.see = seen  # type: ignore[method-assign]
    run.trainer([study]).validate(run.module, datamodule=run.data, verbose=False)
    assert seen.call_count > 0
    assert 0 <= study.scores()[f"dice_study_batch{run.config.data.batch_size}"] <= 1


def test_the_test_pass_is_scored_and_starts_anew(make_run: Callable) -> None:
    run = make_run()
    size = run.config.data.batch_size
    study, alone = (StudyDice(len(run.data.spec.classes), size) for _ in range(2))
    trainer = run.trainer([study])
    count(trainer, run.module, run.data, "val")
    of_val = study.scores()
    count(trainer, run.module, run.data, "test")
    count(run.trainer([alone]), run.module, run.data, "test")
    assert study.scores() == alone.scores() != of_val


def random_batch(n_classes: int = 5, seed: int = 0) -> tuple[dict[str, torch.Tensor], Batch]:
    drawn = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, n_classes, (3, 8, 9), generator=drawn)
    classes[torch.rand(classes.shape, generator=drawn) < 0.2] = IGNORE
    logits = 3 * torch.randn(3, n_classes, 8, 9, generator=drawn)
    return {"classes": logits}, batch(classes)


def test_pixels_are_counted_as_cells_are() -> None:
    outputs, given = random_batch()
    probs = outputs["classes"].softmax(1).movedim(1, -1).reshape(-1, 5)
    types = torch.where(given.classes == IGNORE, IGNORE, given.classes + 1).flatten()
    wanted = calibration_counts(probs.numpy(), types.numpy())
    found = pixel_calibration_counts(outputs, given)
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found[:, [0, 2]], wanted[:, [0, 2]])
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert (wanted[:, 0] > 0).sum() > 5  # of its bins


def test_without_a_class_head_nuclei_and_background_are_two_classes() -> None:
    # Probabilities .9 of a nucleus that is one, .2 of what is none, .5 of what is, and one unknown.
    foreground = torch.tensor([0.9, 0.2, 0.5, 0.7]).logit().view(1, 1, 1, 4)
    given = batch(torch.tensor([[[1, 0, 1, IGNORE]]]), torch.tensor([[[4, 0, 5, 0]]]))
    calibration = PixelCalibration()
    passed(calibration, {"foreground": foreground}, given)
    found = calibration.scores()
    assert sum(found["pixels"]) == 3
    assert found["brier"] == pytest.approx(2 * (0.1**2 + 0.2**2 + 0.5**2) / 3)
    assert found["ece"] == pytest.approx((0.1 + 0.2 + 0.5) / 3)  # each in a bin of its own


def test_batches_add_up() -> None:
    batches = [random_batch(seed=seed) for seed in (1, 2)]
    calibration = PixelCalibration()
    for outputs, given in batches:
        passed(calibration, outputs, given)
    counts = sum(pixel_calibration_counts(*each) for each in batches).numpy()
    found = calibration.scores()
    assert found["pixels"] == counts[:, 0].tolist()
    assert found["ece"] == pytest.approx(float(ece(counts)))
    assert found["brier"] == pytest.approx(float(brier(counts)))
    assert all(isinstance(n, int) for n in found["pixels"])
    empty = [n == 0 for n in found["pixels"]]
    assert [np.isnan(x) for x in found["confidence"]] == empty
    assert [len(found[key]) for key in ("low", "high", "confidence", "accuracy")] == [BINS] * 4


def test_probabilities_of_half_precision_are_taken_as_they_come() -> None:
    outputs, given = random_batch()
    halves = {"classes": outputs["classes"].bfloat16()}
    found = pixel_calibration_counts(halves, given)
    assert found[:, 0].sum() == (given.classes != IGNORE).sum()
    assert ece(found.numpy()) == pytest.approx(
        float(ece(pixel_calibration_counts(outputs, given))), abs=0.01
    )


def test_a_batch_without_known_pixels_counts_nothing() -> None:
    calibration = PixelCalibration()
    nothing = torch.full_like(TRUTH, IGNORE)
    passed(calibration, logits(PREDICTED), batch(nothing))
    found = calibration.scores()
    assert sum(found["pixels"]) == 0
    assert np.isnan(found["ece"])


def test_both_sides_are_calibrated_over_all_their_known_pixels(make_run: Callable) -> None:
    run, calibration = make_run(), PixelCalibration()
    trainer = run.trainer([calibration])
    for side in ("val", "test"):
        confusion = count(trainer, run.module, run.data, side)
        found = calibration.scores()
        assert sum(found["pixels"]) == confusion.sum()
        hits = np.nansum(np.array(found["pixels"]) * np.array(found["accuracy"]))
        assert hits == pytest.approx(np.trace(confusion.sum(0)))
