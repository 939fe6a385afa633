"""The charts of a report, drawn from plain numbers; what they show also stands in tables.

Arms keep their colour and dashes in all of them: the order of `arms` decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tissueseg.reporting.study.charts import (
    LINE_PX,
    Axis,
    Estimate,
    axis_of,
    bottom_axis,
    dot,
    left_axis,
    line,
    lines_of_text,
    of_arm,
    path,
    svg,
    text,
    width_of,
    wrapped,
)
from tissueseg.reporting.study.from_runs import Bins, Curve
from tissueseg.reporting.study.words import number

_NAME = 24  # characters of a line of an arm's name
_PLOT_PX = 280


class Curves(NamedTuple):
    """A number by epoch, of every arm that logged it."""

    title: str
    arms: Mapping[int, Curve]  # place among the arms -> its curve
    kept: Mapping[int, Sequence[tuple[float, float]]]  # (epoch, value) of every run


def forest(rows: Sequence[Estimate], baseline: str, guess: float, name: str) -> str:
    """Estimates with intervals below one another, and what every seed scored as small circles.

    Args:
        rows: arms.
        baseline: arm at whose estimate a line is drawn.
        guess: score of guessing, drawn where it is near; NaN: not known.
        name: of the axis.
    """
    labels = [
        wrapped(r.name + " (baseline)" * (r.name == baseline != "baseline"), _NAME) for r in rows
    ]
    left = width_of(words for lines in labels for words in lines) + 14
    heights = [max(30, LINE_PX * len(lines) + 10) for lines in labels]
    middles = np.cumsum(heights) - np.array(heights) / 2 + 4
    bottom = sum(heights) + 8
    axis = _forest_axis(rows, guess, left)
    marks = [*bottom_axis(axis, bottom, name, top=4)]
    marks += [
        line(axis.at(r.value), 4, axis.at(r.value), bottom, "guide")
        for r in rows
        if r.name == baseline and math.isfinite(r.value)
    ]
    marks += _guess(axis, guess, bottom)
    for i, (row, lines, y) in enumerate(zip(rows, labels, middles, strict=True)):
        marks.append(lines_of_text(left - 10, y, lines, "end", "strong"))
        marks.append(of_arm(i, _forest_row(axis, row, float(y))))
    foot = 66 if math.isfinite(guess) else 44
    return svg(left + _PLOT_PX + 30, bottom + foot, f"{name} of every arm", marks)


def curves(shown: Curves) -> str:
    """Means over runs as lines, from the lowest to the highest run as bands, kept epochs as dots."""
    spread = [v for c in shown.arms.values() for v in (*c.low.tolist(), *c.high.tolist())]
    epochs = [e for c in shown.arms.values() for e in c.epochs.tolist()]
    across = Axis(min(epochs), max(max(epochs), min(epochs) + 1), 52, 340)
    up = axis_of(spread, 190, 26)
    marks = [text(52, 14, shown.title, css="strong"), *left_axis(up, 52, 340)]
    marks += bottom_axis(across, 190, "epoch")
    for i, found in shown.arms.items():
        x = [across.at(e) for e in found.epochs]
        low, mean, high = (
            [(a, up.at(b)) for a, b in zip(x, values, strict=True)]
            for values in (found.low, found.mean, found.high)
        )
        drawn = [path([*high, *reversed(low)], "band", closed=True), path(mean, "stroke dashed")]
        kept = shown.kept.get(i, ())
        drawn += [dot(across.at(e), up.at(v), 3.5, "kept", f"kept: epoch {e:g}") for e, v in kept]
        marks.append(of_arm(i, drawn))
    return svg(352, 230, f"{shown.title} by epoch", marks)


def reliability(found: Mapping[int, Bins], title: str) -> str:
    """Accuracy by confidence of every arm; on the diagonal probabilities can be believed."""
    across, up = Axis(0, 1, 48, 288), Axis(0, 1, 266, 26)
    marks = [text(48, 14, title, css="strong"), *left_axis(up, 48, 288)]
    marks += [*bottom_axis(across, 266, "confidence"), line(48, 266, 288, 26, "guide")]
    for i, bins in found.items():
        filled = bins.counts > 0
        rows = zip(*(values[filled].tolist() for values in bins[:3]), strict=True)
        points = [(across.at(c), up.at(a), f"{n:,.0f}: {number(a)}") for n, c, a in rows]
        drawn = [path([(x, y) for x, y, _ in points], "stroke dashed")]
        drawn += [dot(x, y, 2.5, "kept", hint) for x, y, hint in points]
        marks.append(of_arm(i, drawn))
    return svg(302, 306, f"{title}: accuracy by confidence", marks)


def _forest_axis(rows: Sequence[Estimate], guess: float, left: float) -> Axis:
    """The rows' values, and the guess where it does not squeeze them into less than half."""
    values = [v for r in rows for v in (r.value, r.low, r.high, *r.seeds)]
    own = axis_of(values, left, left + _PLOT_PX)
    with_guess = axis_of([*values, guess], left, left + _PLOT_PX)
    return own if with_guess.high - with_guess.low > 2 * (own.high - own.low) else with_guess


def _guess(axis: Axis, guess: float, bottom: float) -> Iterator[str]:
    if not math.isfinite(guess):
        return
    words = f"guessing: {number(guess)}"
    if axis.low <= guess <= axis.high:
        yield line(axis.at(guess), 4, axis.at(guess), bottom, "guide")
        words += " (dashed)"
    else:
        words = f"← {words}" if guess < axis.low else f"{words} →"
    yield text(axis.start_px, bottom + 54, words)


def _forest_row(axis: Axis, row: Estimate, y: float) -> Iterator[str]:
    if math.isfinite(row.low) and math.isfinite(row.high):
        low, high = axis.at(row.low), axis.at(row.high)
        yield line(low, y, high, y, "stroke")
        yield from (line(end, y - 4, end, y + 4, "stroke") for end in (low, high))
    if math.isfinite(row.value):
        yield dot(axis.at(row.value), y, 4.5, "fill", f"{row.name}: {number(row.value)}")
    else:
        yield text(axis.start_px + 4, y + 4, "–")
    seeds = (s for s in row.seeds if math.isfinite(s))
    yield from (dot(axis.at(s), y + 9, 2.2, "seed", number(s)) for s in seeds)
