"""The pictures of a study's page: of each tissue what went in, and below it what every arm made of it.

Inputs and truth stand once, arms beside one another, so that one look compares them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from tissueseg.modules.panels import ERRORS
from tissueseg.reporting.page_parts import embedded
from tissueseg.reporting.study.from_runs import classes_of, side_of
from tissueseg.reporting.study.pictures import PICTURE_PX, Shown, TissuePanels, choose_pictures
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.words import listed, number

PICTURES_BYTES = 8_000_000
"""Of all pictures of a page, before they become text."""

STYLE = """
.inputs { display: flex; flex-wrap: wrap; gap: .4rem .8rem; }
.arms { --most: max(var(--wide), 10rem); display: grid; gap: 4px .8rem; margin: .6rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 12.5rem, var(--most)), 1fr));
  max-width: calc(var(--arms) * (var(--most) + .8rem) - .7rem); }
.arms figure { display: grid; grid-row: span var(--rows); grid-template-rows: subgrid;
  align-content: start; margin: 0 0 .7rem; }
.arms figcaption { align-self: end; }
.inputs img, .arms img { display: block; max-width: 100%; height: auto; border-radius: 3px; }
.inputs figure { width: max(var(--wide), 10rem); max-width: 100%; }
.inputs figcaption, .arms figcaption { overflow-wrap: anywhere; font-size: .85rem; line-height: 1.3; }
.arms figcaption b { display: block; color: var(--ink); font-weight: 600; }
.panel img { max-width: 100%; display: block; border-radius: 4px; }
.panel { margin: 0 0 .8rem; }
"""


def pictures(report: StudyReport) -> Iterator[str]:
    """The best, the median and the worst tissue by all arms."""
    yield "<h2>Best, median and worst tissue</h2>"
    choice = choose_pictures(report)
    shown = [picture for tissue in choice.tissues for picture in _pictures(tissue)]
    if not shown:
        yield _soft(f"Left out: no run drew a tissue of {side_of(report)}.")
    else:
        yield _soft(
            f"By {choice.key} of single tissues, mean over arms; of each arm its run with the median "
            f"score on that tissue.{_order(choice.tissues)}"
        )
        yield _legend(report, choice.tissues)
    addresses = iter(embedded(shown, PICTURES_BYTES) if shown else [])
    for tissue in choice.tissues if shown else ():
        yield from _tissue(tissue, addresses)
    yield from map(_soft, choice.notes)


def _pictures(tissue: TissuePanels) -> Iterator[np.ndarray]:
    """In the order in which they are shown."""
    yield from tissue.shared.values()
    for panel in tissue.panels:
        yield from panel.pictures.values()
        if panel.sheet is not None:
            yield panel.sheet


def _order(tissues: Sequence[TissuePanels]) -> str:
    """What stands below what, in words."""
    titles = dict.fromkeys(t for tissue in tissues for p in tissue.panels for t in p.pictures)
    if not titles:
        return ""
    told = listed([f"its {title}" for title in titles])
    grey = " What is grey in an error picture is right." if "error" in titles else ""
    return f" Of every arm, from above: {told}, as far as it has them.{grey}"


def _legend(report: StudyReport, tissues: Sequence[TissuePanels]) -> str:
    """Colours of the classes that occur, and of errors; sheets bring their own."""
    parts = [p.pictures for tissue in tissues for p in tissue.panels if p.pictures]
    if not parts:
        return ""
    names = [name for name in _occurring(report, tissues) if name in report.colors]
    colors = {name: report.colors[name] for name in names}
    errors = {name: f"rgb{rgb}" for name, rgb in ERRORS.items()}
    if any((p["error"] == 255).all(axis=-1).any() for p in parts if "error" in p):
        errors["ignored"] = "#fff"
    chips = "".join(f"<span>{chip(color)}{escape(name)}</span>" for name, color in colors.items())
    wrong = "".join(f"<span>{chip(color)}{escape(name)}</span>" for name, color in errors.items())
    return f'<div class="legend">{chips}</div><div class="legend">Errors: {wrong}</div>'


def chip(color: str | None) -> str:
    """A square of a colour, as HTML; nothing where there is none."""
    return f'<span class="chip" style="background:{escape(color)}"></span>' if color else ""


def _occurring(report: StudyReport, tissues: Sequence[TissuePanels]) -> list[str]:
    """Classes but background that are true or predicted on the tissues; all where nobody counted."""
    side, shown = side_of(report), {tissue.tissue for tissue in tissues}
    found: set[str] = set()
    for run in report.runs:
        names, counts = classes_of([run]), run.confusion.get(side, ())
        for tissue, of_tissue in zip(run.tissues(side), counts, strict=False):
            there = np.flatnonzero(of_tissue.sum(axis=0) + of_tissue.sum(axis=1))
            found |= {names[i] for i in there if i > 0 and tissue in shown}
    return [name for name in report.colors if name in found or not found]


def _tissue(tissue: TissuePanels, addresses: Iterator[str]) -> Iterator[str]:
    yield f"<h3>{tissue.role}: {escape(tissue.tissue)}, {number(tissue.score)}</h3>"
    if tissue.shared:
        inputs = (_input(title, p, addresses) for title, p in tissue.shared.items())
        yield f'<div class="inputs">{"".join(inputs)}</div>'
    grid, strips = [], []
    for panel in tissue.panels:  # in the order of the addresses
        (grid if panel.sheet is None else strips).append(_arm(panel, addresses))
    if grid:
        sizes = [p.shape[1] for panel in tissue.panels for p in panel.pictures.values()]
        rows = 1 + max(len(panel.pictures) for panel in tissue.panels)
        wide = max(sizes, default=PICTURE_PX)
        style = f"--wide:{wide}px;--rows:{rows};--arms:{len(grid)}"
        yield f'<div class="arms" style="{style}">{"".join(grid)}</div>'
    yield from strips
    if tissue.without:
        yield _soft(f"No panel of {listed(tissue.without)}.")


def _input(title: str, picture: np.ndarray, addresses: Iterator[str]) -> str:
    image = _image(next(addresses), title, picture)
    wide = f'style="--wide:{picture.shape[1]}px"'
    return f"<figure {wide}>{image}<figcaption>{escape(title)}</figcaption></figure>"


def _arm(panel: Shown, addresses: Iterator[str]) -> str:
    fold = f"fold {panel.fold}, " if panel.fold else ""
    told = f"{number(panel.score)} ({fold}seed {panel.seed})"
    caption = f"<figcaption><b>{escape(panel.arm)}</b> {escape(told)}</figcaption>"
    if panel.sheet is not None:
        image = _image(next(addresses), panel.arm, panel.sheet)
        return f'<figure class="panel">{caption}{image}</figure>'
    named: Mapping[str, np.ndarray] = panel.pictures
    images = (_image(next(addresses), f"{panel.arm}: {t}", p) for t, p in named.items())
    return f"<figure>{caption}{''.join(images)}</figure>"


def _image(address: str, told: str, picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    words = escape(told)
    return f'<img src="{address}" alt="{words}" title="{words}" width="{width}" height="{height}">'


def _soft(words: str) -> str:
    return f'<p class="soft">{escape(words)}</p>'
