"""Charts of a report by class: scores of all arms, and how often a class is predicted.

Arms keep their colour and order; what the charts show also stands in tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tissueseg.reporting.study.charts import (
    LINE_PX,
    Axis,
    Estimate,
    bar,
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
from tissueseg.reporting.study.words import number, share

_PLOT_PX = 320
_CROWDED = 4.5  # powers of two to each side, of which only even ones are named


def class_bars(
    classes: Mapping[str, Sequence[Estimate]], arms: Sequence[str], colors: Mapping[str, str]
) -> str:
    """Bars of all arms in a group for every class, whose colour underlines it.

    Args:
        classes: class -> arms that have an estimate.
        arms: all arms.
        colors: class -> #rrggbb.
    """
    ends = (v for rows in classes.values() for r in rows for v in (r.value, r.low, r.high))
    top = max([1e-6, *(v for v in ends if math.isfinite(v))])
    axis = Axis(0.0, 1.0 if 0.5 < top <= 1 else 1.02 * top, 190.0, 8.0)
    wide = min(26.0, max(7.0, 84 / max(len(arms), 1)))
    labels = {name: wrapped(name, 14) for name in classes}
    group = max(wide * len(arms), width_of(w for lines in labels.values() for w in lines)) + 14
    left = 48.0
    marks = [*left_axis(axis, left, left + group * len(classes))]
    for i, (name, rows) in enumerate(classes.items()):
        start = left + group * i + (group - wide * len(arms)) / 2
        marks += _group(axis, name, rows, arms, start, wide)
        color = f"fill:{colors.get(name, 'var(--soft)')}"
        marks.append(bar(left + group * i + 5, 193, group - 10, 6, name, color))
        places = ((204 + LINE_PX * (k + 0.6), words) for k, words in enumerate(labels[name]))
        marks += [text(left + group * (i + 0.5), y, w, "middle", "strong") for y, w in places]
    height = 212 + LINE_PX * max((len(lines) for lines in labels.values()), default=1)
    return svg(left + group * len(classes) + 8, height, "score of every class by arm", marks)


def share_ratios(
    classes: Sequence[str], truths: Sequence[float], ratios: np.ndarray, arms: Sequence[str]
) -> str:
    """How often each class is predicted for each time it is true, on a logarithmic scale.

    Args:
        classes: names, by id.
        truths: (n,) true share.
        ratios: (arms, n) predicted / true share; NaN: the class does not occur, 0: never predicted.
        arms: names.
    """
    labels = [f"{name} ({share(t)})" for name, t in zip(classes, truths, strict=True)]
    lines = [wrapped(label, 26) for label in labels]
    left = width_of(words for found in lines for words in found) + 14
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    reach = float(np.clip(np.abs(np.log2(known)).max(initial=1.0), 1.0, 5.0)) * 1.08
    axis = Axis(-reach, reach, left + 18, left + 18 + _PLOT_PX)
    height = [max(26, 7 * len(arms) + 12, LINE_PX * len(found) + 8) for found in lines]
    bottom = sum(height) + 6
    marks = [*_ratio_axis(axis, bottom)]
    for k, found in enumerate(lines):
        top = 6 + sum(height[:k])
        marks.append(lines_of_text(left - 6, top + height[k] / 2, found, "end", "strong"))
        marks.append(line(left, top, axis.end_px + 18, top))
        step = height[k] / (len(arms) + 1)
        for i, arm in enumerate(arms):
            drawn = _ratio_mark(axis, float(ratios[i, k]), top + step * (i + 1), arm)
            marks.append(of_arm(i, drawn))
    return svg(axis.end_px + 26, bottom + 44, "predicted by true share of every class", marks)


def _group(
    axis: Axis,
    name: str,
    rows: Sequence[Estimate],
    arms: Sequence[str],
    start: float,
    wide: float,
) -> Iterator[str]:
    """The bars of one class; – where an arm has no score."""
    by_arm = {row.name: row for row in rows}
    for i, arm in enumerate(arms):
        x, row = start + wide * i, by_arm.get(arm)
        if row is None or not math.isfinite(row.value):
            yield text(x + wide / 2, axis.start_px - 4, "–", "middle")
            continue
        y, hint = axis.at(row.value), f"{name}, {arm}: {number(row.value)}"
        drawn = [bar(x, y, wide - 1.5, axis.start_px - y, hint)]
        if math.isfinite(row.low) and math.isfinite(row.high):
            middle = x + (wide - 1.5) / 2
            drawn.append(line(middle, axis.at(row.low), middle, axis.at(row.high), "whisker"))
        yield of_arm(i, drawn)


def _ratio_axis(axis: Axis, bottom: float) -> Iterator[str]:
    for power in range(math.ceil(axis.low), math.floor(axis.high) + 1):
        x = axis.at(power)
        yield line(x, 4, x, bottom, "" if power else "guide")
        if power % 2 == 0 or axis.high < _CROWDED:
            told = f"{2**power}" if power >= 0 else f"1/{2**-power}"
            yield text(x, bottom + 17, told, "middle")
    middle = (axis.start_px + axis.end_px) / 2
    yield text(middle, bottom + 36, "← too rarely · predicted / true share · too often →", "middle")


def _ratio_mark(axis: Axis, ratio: float, y: float, arm: str) -> Iterator[str]:
    """A dot, or a triangle at the end that it lies beyond."""
    if not math.isfinite(ratio):
        return
    power = math.log2(ratio) if ratio > 0 else -math.inf
    if axis.low <= power <= axis.high:
        yield dot(axis.at(power), y, 3.5, "fill", f"{arm}: {number(ratio)}")
        return
    x, way = (axis.start_px - 8, -7) if power < 0 else (axis.end_px + 8, 7)
    yield path([(x, y - 4), (x, y + 4), (x + way, y)], "fill", closed=True)
