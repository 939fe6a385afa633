"""A validation pass scored as the student study did, from what the module's step hands on."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import pytest
import torch

from tissueseg.contracts import IGNORE, Batch
from tissueseg.modules.scoring import StudyDice

TRUTH = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, IGNORE]]])
PREDICTED = torch.tensor([[[0, 1, 1, 1]], [[0, 0, 2, 2]]])


def batch(classes: torch.Tensor, labels: torch.Tensor | None = None) -> Batch:
    nothing = torch.zeros(len(classes), 2)
    labels = (classes % IGNORE > 0).int() if labels is None else labels
    return Batch(nothing, nothing, classes, labels, {}, nothing, nothing, nothing)


def passed(study: StudyDice, outputs: dict[str, torch.Tensor], given: Batch) -> None:
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
    seen = Mock(wraps=study.on_validation_batch_end)
    study.on_validation_batch_end = seen  # type: ignore[method-assign]
    run.trainer([study]).validate(run.module, datamodule=run.data, verbose=False)
    assert seen.call_count > 0
    assert 0 <= study.scores()[f"dice_study_batch{run.config.data.batch_size}"] <= 1
