"""Axes and marks of charts as SVG text: no script, nothing loaded, and right on light and dark paper.

Lengths are CSS pixels at 12 px text, of which a character takes some 7; a chart wider than the page is
scrolled, not shrunk, so its text stays readable. Colours come from classes, for the page's own style of
`rect`, `line` and `text` outranks attributes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

CHARACTER_PX = 7
LINE_PX = 15

_COLORS = (  # Okabe & Ito and Tol, told apart with the common colour blindnesses; on light, on dark
    ("#0072b2", "#56a5e0"),
    ("#d55e00", "#f08a4b"),
    ("#009e73", "#35c79a"),
    ("#cc79a7", "#e39bc3"),
    ("#b38600", "#e6b422"),
    ("#4aa3d8", "#8fd0f7"),
    ("#882255", "#d0648f"),
    ("#7a7a7a", "#a8a8a8"),
    ("#332288", "#9d8cf0"),
    ("#117733", "#66b34d"),
    ("#999933", "#c9c94f"),
    ("#8c510a", "#c48a4a"),
)
_DASHES = ("none", "7 3", "2 3", "7 3 2 3")
_HALF = len(_COLORS) // 2  # colours after which lines are dashed as well


def _rules(dark: bool) -> str:
    return " ".join(f".a{i} {{ --c: {pair[dark]}; }}" for i, pair in enumerate(_COLORS))


STYLE = f"""
{_rules(False)}
@media (prefers-color-scheme: dark) {{ {_rules(True)} }}
{" ".join(f".d{i} {{ --dash: {dash}; }}" for i, dash in enumerate(_DASHES))}
svg .stroke {{ stroke: var(--c, var(--ink)); fill: none; stroke-width: 2; }}
svg .whisker {{ stroke: var(--ink); stroke-width: 1.3; }}
svg .dashed {{ stroke-dasharray: var(--dash, none); }}
svg .guide {{ stroke: var(--soft); stroke-dasharray: 4 3; }}
svg rect.fill, svg .fill {{ fill: var(--c, var(--ink)); }}
svg rect[style] {{ stroke: var(--soft); stroke-width: .6; }}
svg .band {{ fill: var(--c); opacity: .12; }}
svg .seed {{ fill: var(--paper); stroke: var(--c, var(--ink)); stroke-width: 1.2; }}
svg .kept {{ fill: var(--c); stroke: var(--paper); stroke-width: 1; }}
svg text.strong {{ fill: var(--ink); }}
.chart {{ overflow-x: auto; }}
.chart svg {{ max-width: none; display: block; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .4rem 0; }}
.legend span {{ overflow-wrap: anywhere; }}
.legend svg {{ width: 28px; height: 10px; margin-right: .4rem; }}
"""


@dataclass(frozen=True)
class Axis:
    """Values along a line of pixels."""

    low: float
    high: float
    start_px: float
    end_px: float

    def at(self, value: float) -> float:
        """Where a value lies, px; beyond the ends it lies at the nearer one."""
        part = (value - self.low) / (self.high - self.low)
        return self.start_px + min(max(part, 0.0), 1.0) * (self.end_px - self.start_px)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within, about as many as told."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


class Estimate(NamedTuple):
    """A score with its interval, as it is drawn."""

    name: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()


def axis_of(values: Iterable[float], start_px: float, end_px: float, pad: float = 0.05) -> Axis:
    """An axis that holds all finite values with room around; 0 … 1 where there are none."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = pad * (high - low) or max(abs(high), 1.0) * pad
    return Axis(low - room, high + room, start_px, end_px)


def tick_text(value: float) -> str:
    """A tick's value, short: `0.45`."""
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}"


def svg(width: float, height: float, label: str, marks: Iterable[str]) -> str:
    """A chart of its own width; `label` is plain text that says what it shows."""
    return (
        f'<div class="chart"><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'style="width:{width:.0f}px" aria-label="{escape(label)}">'
        + "".join(marks)
        + "</svg></div>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", css: str = "") -> str:
    """Plain words at a baseline."""
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def lines_of_text(x: float, y: float, lines: Sequence[str], anchor: str, css: str = "") -> str:
    """Lines below one another whose middle lies at `y`."""
    top = y + 4 - LINE_PX * (len(lines) - 1) / 2
    return "".join(text(x, top + LINE_PX * i, line, anchor, css) for i, line in enumerate(lines))


def wrapped(words: str, characters: int) -> list[str]:
    """Words in lines of so many characters, long words broken."""
    return textwrap.wrap(words, characters) or [""]


def width_of(lines: Iterable[str]) -> int:
    """Pixels that the longest of some lines needs."""
    return CHARACTER_PX * max((len(line) for line in lines), default=0)


def line(x1: float, y1: float, x2: float, y2: float, css: str = "") -> str:
    """A straight line."""
    kind = f' class="{css}"' if css else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{kind}/>'


def bar(x: float, y: float, width: float, height: float, hint: str = "", style: str = "") -> str:
    """A filled rectangle; `hint` is shown under the pointer, `style` outranks the class's colour."""
    told = f"<title>{escape(hint)}</title>" if hint else ""
    own = f' style="{escape(style)}"' if style else ""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0):.1f}"'
    return f'<rect class="fill" {size}{own}>{told}</rect>'


def dot(x: float, y: float, radius: float, css: str, hint: str = "") -> str:
    """A round mark."""
    told = f"<title>{escape(hint)}</title>" if hint else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{css}">{told}</circle>'


def path(points: Sequence[tuple[float, float]], css: str, closed: bool = False) -> str:
    """A line through points, or the shape within."""
    tag = "polygon" if closed else "polyline"
    along = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<{tag} points="{along}" class="{css}"/>'


def arm_class(index: int) -> str:
    """Classes that give an arm's marks their colour and dashes."""
    dash = index // _HALF % len(_DASHES)
    return f"a{index % len(_COLORS)} d{dash}"


def of_arm(index: int, marks: Iterable[str]) -> str:
    """Marks in an arm's colour."""
    return f'<g class="{arm_class(index)}">{"".join(marks)}</g>'


def legend(arms: Sequence[str]) -> str:
    """Names beside their colours and dashes."""
    stroke = '<line x1="0" y1="5" x2="28" y2="5" class="stroke dashed"/>'
    keys = (
        f'<span><svg viewBox="0 0 28 10" class="{arm_class(i)}" aria-hidden="true">{stroke}</svg>'
        f"{escape(arm)}</span>"
        for i, arm in enumerate(arms)
    )
    return f'<div class="legend">{"".join(keys)}</div>'


def bottom_axis(axis: Axis, y: float, name: str, top: float | None = None) -> Iterator[str]:
    """Ticks and a name below a chart; with `top`, faint lines up to there."""
    yield line(axis.start_px, y, axis.end_px, y)
    for value in axis.ticks():
        x = axis.at(value)
        yield line(x, y, x, y + 4 if top is None else top)
        yield text(x, y + 17, tick_text(value), "middle")
    yield text((axis.start_px + axis.end_px) / 2, y + 34, name, "middle")


def left_axis(axis: Axis, x: float, right: float) -> Iterator[str]:
    """Ticks on the left and faint lines to the right end of a chart."""
    for value in axis.ticks():
        y = axis.at(value)
        yield line(x, y, right, y)
        yield text(x - 6, y + 4, tick_text(value), "end")
