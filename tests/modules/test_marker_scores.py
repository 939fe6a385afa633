"""Scores of markers that were told from others: numpy's correlations, however pixels come."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tissueseg.modules.marker_scores import MarkerTally
from tissueseg.pretraining.autoencoder import Guess

MARKERS = ("DAPI", "CD3", "CD8")


def pixels(seed: int = 0, count: int = 500, offset: float = 0.0) -> tuple[torch.Tensor, ...]:
    """What was filled in, a baseline, and what is there: alike, less alike."""
    draw = torch.Generator().manual_seed(seed)
    target, noise, other = torch.randn(3, count, generator=draw)
    return target + 0.5 * noise + offset, target + 2 * other, target + offset


def guessed(*guesses: Guess) -> MarkerTally:
    tally = MarkerTally(MARKERS)
    tally.add(guesses)
    return tally


def check(score, predicted, baseline, target) -> None:
    wanted = [np.corrcoef(said, target)[0, 1] for said in (predicted, baseline)]
    error = ((predicted - target) ** 2).mean() / target.var(unbiased=False)
    assert (score.correlation, score.baseline) == pytest.approx(wanted, rel=1e-6)
    assert score.explained == pytest.approx(1 - float(error), rel=1e-5)
    assert score.pixels == len(target)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_scores_are_numpys_on_all_pixels(offset):
    parts = pixels(offset=offset)
    (score,) = guessed(Guess(1, *parts)).scores()
    assert score.marker == "CD3"
    check(score, *parts)


@pytest.mark.parametrize("sizes", [[500], [1, 499], [100] * 5, [3, 7, 490]])
def test_pixels_are_pooled_however_they_are_parted(sizes):
    parts = pixels()
    pieces = zip(*(part.split(sizes) for part in parts), strict=True)
    (score,) = guessed(*(Guess(0, *piece) for piece in pieces)).scores()
    check(score, *parts)


def test_markers_do_not_mix_and_those_never_guessed_are_left_out():
    one, two = pixels(1), pixels(2)
    first, second = guessed(Guess(2, *two), Guess(0, *one)).scores()
    assert (first.marker, second.marker) == ("DAPI", "CD8")
    check(first, *one)
    check(second, *two)
    assert guessed().scores() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_in_float64(dtype):
    parts = [part.to(dtype) for part in pixels(count=20000, offset=3.0)]
    (score,) = guessed(Guess(0, *parts)).scores()
    check(score, *(part.double() for part in parts))


def test_what_is_constant_has_no_correlation():
    predicted, _, target = pixels()
    flat = torch.full_like(target, 0.1)
    (score,) = guessed(Guess(0, predicted, flat, target)).scores()
    assert math.isnan(score.baseline)
    assert score.row()["baseline"] is None
    assert score.row()["correlation"] == score.correlation


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_units_do_not_matter(scale):
    predicted, baseline, target = pixels()
    parts = (predicted * scale, baseline, target * scale)
    (score,) = guessed(Guess(0, *parts)).scores()
    check(score, *parts)


def test_a_constant_marker_has_no_scores():
    predicted, _, target = pixels()
    flat = torch.full_like(target, 0.1)
    (score,) = guessed(Guess(0, predicted, predicted, flat)).scores()
    assert score.row() | {"marker": "", "pixels": 0} == {
        "marker": "",
        "pixels": 0,
        "correlation": None,
        "baseline": None,
        "explained": None,
    }
