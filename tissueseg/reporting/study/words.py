"""How a report writes numbers: three digits, no leading zero, and – for what is not defined.

Scores of which all values lie between 0 and 1 are cut there in words and charts, for a t interval
knows no bounds; tables for machines keep what was computed. What is nought but for digits that are not
shown keeps its sign (`+.000`), and an interval of runs that were all alike is none: they say that no
noise was seen, not that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tissueseg.reporting.ranking import Interval

DASH = "–"

_BOUNDED = (
    "accuracy",
    "aji",
    "binary_dice",
    "boundary_f1",
    "bpq",
    "classification",
    "detection",
    "dice",
    "ece",
    "iou",
    "mpq",
    "pq",
)
"""How names of scores begin that lie between 0 and 1."""


def number(value: float | None, signed: bool = False) -> str:
    """A figure of three digits: `.512`, `−.034`, `12.3`, `1,234`."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if size < 0.9995:
        text = f"{size:.3f}".removeprefix("0")
    elif size < 9.995:
        text = f"{size:.2f}"
    else:
        text = f"{size:.1f}" if size < 99.95 else f"{size:,.0f}"
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def span(interval: Interval, limits: tuple[float, float], signed: bool = False) -> str:
    """An interval's ends, `[.512, .633]`, cut at the limits of what they may be."""
    low, high = clipped(interval, limits)
    if not (math.isfinite(low) and math.isfinite(high)):
        return DASH
    return f"[{number(low, signed)}, {number(high, signed)}]"


def p_value(p: float) -> str:
    """`.012`, `< .001`."""
    return "< .001" if 0 <= p < 0.001 else number(p)


def share(part: float | None) -> str:
    """A share as per cent: `12.3 %`, `.04 %`."""
    if part is None or not math.isfinite(part):
        return DASH
    percent = 100 * part
    if 0 < percent < 0.01:
        return "< .01 %"
    digits = 1 if percent >= 1 or percent == 0 else 2
    text = f"{percent:.{digits}f}"
    return f"{text.removeprefix('0') if 0 < percent < 1 else text} %"


def clipped(interval: Interval, limits: tuple[float, float]) -> tuple[float, float]:
    """Both ends, cut at the limits; NaN where they are not defined, or no noise was seen."""
    if interval.se == 0:
        return math.nan, math.nan
    least, most = limits
    ends = (interval.low, interval.high)
    low, high = (end if math.isnan(end) else min(max(end, least), most) for end in ends)
    return low, high


def limits_of(key: str) -> tuple[float, float]:
    """Between what a score lies; a difference of two lies between minus and plus their distance.

    Args:
        key: of a measure, such as `test/dice/macro`.
    """
    name = key.partition("/")[2].removeprefix("calibration/")
    return (0.0, 1.0) if name.startswith(_BOUNDED) else (-math.inf, math.inf)


def difference_limits(key: str) -> tuple[float, float]:
    """Between what a difference of two scores lies."""
    low, high = limits_of(key)
    return low - high, high - low


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def seconds(value: float | None) -> str:
    """A time for people: `12 ms`, `3.2 s`, `4 min`, `2.1 h`."""
    if value is None or not math.isfinite(value):
        return DASH
    for limit, factor, unit in ((1, 1000, "ms"), (100, 1, "s"), (6000, 1 / 60, "min")):
        if value < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value / 3600:,.1f} h"
