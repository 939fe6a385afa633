"""A study's report as one page that needs nothing but itself, for whoever must decide and believe.

First what came out and how sure it is, then what it is made of, last where every number came from. No
script, nothing loaded from elsewhere: the page can be mailed, and still be read in ten years.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tissueseg.reporting.page_parts import page, table
from tissueseg.reporting.ranking import ArmResult
from tissueseg.reporting.study.charts import STYLE as CHARTS
from tissueseg.reporting.study.charts import Estimate, legend
from tissueseg.reporting.study.class_charts import class_bars
from tissueseg.reporting.study.figures import forest
from tissueseg.reporting.study.from_runs import guess_level
from tissueseg.reporting.study.method import cautions, method, random_notes
from tissueseg.reporting.study.picture_grid import STYLE as PICTURES
from tissueseg.reporting.study.picture_grid import chip, pictures
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.rows import class_rows, matrix_rows, ranking_rows
from tissueseg.reporting.study.sections import (
    calibration,
    confusions,
    cost,
    learning,
    provenance,
    rows_table,
    shares,
)
from tissueseg.reporting.study.words import clipped, limits_of

_DASHES = (
    "Intervals as above. – for a score: the class neither occurs nor is predicted; – for an interval: "
    "too few tissues and seeds have the class, or all scored alike, so no noise was seen."
)

_MATRIX = range(3, 13)  # arms of which all pairs are shown as a table

_STYLE = (
    CHARTS
    + PICTURES
    + """
.conclusion { font-size: 1.35rem; line-height: 1.35; margin: .8rem 0 1.2rem; overflow-wrap: anywhere; }
body { max-width: 90rem; }
.study p, .study ul { max-width: 75rem; }
.sides { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.sides > * { max-width: 100%; }
.beside > .scroll { flex: 1 1 42rem; font-size: .9em; }
.beside > .scroll td, .beside > .scroll th { padding-right: .55rem; }
.study th, .study td { overflow-wrap: break-word; padding-right: .7rem; }
.study th { vertical-align: bottom; white-space: normal; }
.study .scroll > table:not(.grid) :is(th, td):first-child { position: sticky; left: 0;
  background: var(--paper); }
.whole { white-space: nowrap; }
.study .grid { border-collapse: separate; border-spacing: 1px; font-size: .72rem; }
.study .grid td, .study .grid th { min-width: 1.35rem; padding: .12rem; text-align: center; }
.grid tr + tr { border: 0; }
.study .grid th.up { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
.study .grid th.row { text-align: right; white-space: nowrap; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--soft); }
code, pre { font: .85rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
"""
)


def study_page(report: StudyReport) -> str:
    """The page as HTML, of less than 12 MB."""
    parts = [
        *_head(report),
        *_ranking(report),
        *_classes(report),
        *learning(report),
        *shares(report),
        *confusions(report),
        *calibration(report),
        *pictures(report),
        *cost(report),
        *provenance(report),
    ]
    return page(report.title, ['<main class="study">', *parts, "</main>"], _STYLE)


def _head(report: StudyReport) -> Iterator[str]:
    yield f"<h1>{escape(report.title)}</h1>"
    if report.question:
        yield f'<p class="soft">{escape(report.question)}</p>'
    yield f'<p class="conclusion">{escape(report.conclusion)}</p>'
    yield from (f'<p class="loud">{escape(note)}</p>' for note in random_notes(report))
    if notes := cautions(report):
        yield f'<ul class="notices">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'


def _ranking(report: StudyReport) -> Iterator[str]:
    ranking, key = report.ranking, report.ranking.measure.key
    rows = [_estimate(result, key) for result in ranking.arms]
    drawn = forest(rows, ranking.baseline, guess_level(report), key)
    yield "<h2>Ranking</h2>"
    yield f'<div class="sides beside">{drawn}{rows_table(ranking_rows(report))}</div>'
    yield '<p class="soft">In the chart: the estimate, its interval, and below it every seed.</p>'
    yield from (f'<p class="soft">{escape(sentence)}</p>' for sentence in method(report))
    if len(ranking.arms) in _MATRIX:
        yield "<h3>All pairs</h3>"
        yield rows_table(matrix_rows(report))


def _classes(report: StudyReport) -> Iterator[str]:
    if not report.by_class:
        return
    key = report.ranking.measure.key
    shown = {name: [_estimate(r, key) for r in rows] for name, rows in report.by_class.items()}
    arms = [result.arm for result in report.ranking.arms]
    yield "<h2>Classes</h2>"
    yield legend(arms)
    yield class_bars(shown, arms, report.colors)
    header, rows, numbers = class_rows(report)
    chips = [
        [
            f'<span class="whole">{chip(report.colors.get(name))}{escape(name)}</span>',
            *map(escape, own),
        ]
        for name, *own in rows
    ]
    yield table(header, chips, numbers)
    yield f'<p class="soft">{escape(_DASHES)}</p>'


def _estimate(result: ArmResult, key: str) -> Estimate:
    low, high = clipped(result.interval, limits_of(key))
    return Estimate(result.arm, result.interval.estimate, low, high, result.by_seed)
