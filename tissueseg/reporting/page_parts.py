"""Pieces of a page that needs nothing but itself: its style, histograms as SVG, and pictures as text."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from PIL import Image

from tissueseg.reporting.tissue_summary import Histogram

PICTURES_BYTES = 2_000_000
"""Of all pictures of a page, before they become text, which takes a third more."""

_QUALITIES = (88, 80, 70, 60, 45)
_WIDTH, _HEIGHT, _FOOT = 480, 150, 34  # of a histogram, in units of its own

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2126; --soft: #5f6873; --line: #dfe3e8;
  --card: #f6f7f9; --bar: #3a6ea5; --loud: #a40e26; --note: #fff6dc; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e8eaed; --soft: #9aa4af;
  --line: #333a42; --card: #1e2227; --bar: #7db0e6; --loud: #c4314b; --note: #3a3215; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 80rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .5rem; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .6rem; font-size: 1.1rem; }
a { color: inherit; }
.figures { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.figures div { background: var(--card); border-radius: 8px; padding: .5rem .9rem; }
.figures b { display: block; font-size: 1.3rem; }
.soft, .figures span, figcaption, th { color: var(--soft); }
.loud { background: var(--loud); color: #fff; font-weight: 700; padding: .8rem 1rem;
  border-radius: 8px; }
.notices { background: var(--note); border-radius: 8px; padding: .6rem 1rem .6rem 2.2rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: .6rem; margin: 0 0 1rem; }
.pair img { width: 100%; display: block; border-radius: 4px; }
figure { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; font-weight: 400; vertical-align: top;
  overflow-wrap: anywhere; }
tr + tr { border-top: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.chip { display: inline-block; width: .85em; height: .85em; border-radius: 3px; margin-right: .5em;
  border: 1px solid var(--soft); vertical-align: -.08em; }
.share { width: 14rem; max-width: 30vw; }
.share i { display: block; height: .8em; margin-top: .35em; border-radius: 2px; min-width: 1px; }
svg { width: 100%; max-width: 36rem; height: auto; }
svg rect { fill: var(--bar); }
svg text { fill: var(--soft); font-size: 12px; }
svg line { stroke: var(--line); }
"""


def page(title: str, body: Sequence[str], style: str = "") -> str:
    """A whole document; `title` is plain text, `body` is HTML, `style` is added to the house's."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    """A table of HTML cells.

    Args:
        header: plain text.
        rows: HTML.
        numbers: columns that hold figures, which stand to the right.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = (' class="n"' if i in numbers else "" for i in range(len(cells)))
        pairs = zip(kinds, cells, strict=True)
        return "<tr>" + "".join(f"<{tag}{kind}>{c}</{tag}>" for kind, c in pairs) + "</tr>"

    head = line([escape(h) for h in header], "th")
    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>\n{head}\n{body}\n</table></div>'


def histogram(found: Histogram, what: str) -> str:
    """Bars over their bins, each with its figures under the pointer; `what` is plain text."""
    most = max(*found.counts, 1)
    width = _WIDTH / max(len(found.counts), 1)
    bars = []
    for i, count in enumerate(found.counts):
        height = _HEIGHT * count / most
        low, high = found.edges[i], found.edges[i + 1]
        hint = escape(f"{low:.4g} … {high:.4g} {found.unit}: {count:,} cells")
        bars.append(
            f'<rect x="{i * width:.2f}" y="{_HEIGHT - height:.2f}" width="{max(width - 1, 0.5):.2f}" '
            f'height="{height:.2f}"><title>{hint}</title></rect>'
        )
    beyond = f", {found.beyond:,} beyond" if found.beyond else ""
    label = escape(f"{what}{beyond}; highest bar: {most:,} cells")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" aria-label="{label}">'
        + "".join(bars)
        + f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>'
        + "".join(_ticks(found))
        + f'<text x="0" y="{_HEIGHT + 31}">{label}</text></svg>'
    )


def embedded(pictures: Sequence[np.ndarray], most_bytes: int = PICTURES_BYTES) -> list[str]:
    """Pictures (H, W, 3) uint8 as `data:` addresses, together no larger than told.

    JPEG with colours at full resolution, for rims are thin; the quality falls until they fit, then the
    longer sides do.
    """
    images = [Image.fromarray(picture) for picture in pictures]
    while True:
        for quality in _QUALITIES:
            made = [_jpeg(image, quality) for image in images]
            if sum(map(len, made)) <= most_bytes:
                return [f"data:image/jpeg;base64,{base64.b64encode(j).decode()}" for j in made]
        largest = max(max(image.size) for image in images)
        if largest <= 16:
            raise ValueError(f"most_bytes={most_bytes} hold no {len(images)} pictures of any size.")
        images = [_at_most(image, largest * 3 // 4) for image in images]


def size_of(count: int) -> str:
    """Bytes for people: `3.2 MB`."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def _ticks(found: Histogram) -> Iterator[str]:
    """First, middle and last edge below the bars."""
    last = len(found.edges) - 1
    places = ((0, "start"), (last // 2, "middle"), (last, "end"))
    for i, anchor in places:
        x = _WIDTH * i / max(last, 1)
        unit = f" {found.unit}" if i == last and found.unit else ""
        text = escape(f"{found.edges[i]:.3g}{unit}")
        yield f'<text x="{x:.1f}" y="{_HEIGHT + 15}" text-anchor="{anchor}">{text}</text>'


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _at_most(image: Image.Image, side_px: int) -> Image.Image:
    if max(image.size) <= side_px:
        return image
    factor = side_px / max(image.size)
    width, height = (max(1, round(length * factor)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
