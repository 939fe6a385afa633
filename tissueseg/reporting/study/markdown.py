"""A study's report as Markdown, for a pull request or a paper notebook: words and tables, no pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tissueseg.reporting.study.method import cautions, method, random_notes
from tissueseg.reporting.study.provenance import run_rows, shared_facts
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.rows import (
    Rows,
    class_rows,
    comparison_rows,
    cost_rows,
    ranking_rows,
)

_SPECIAL = re.compile(r"[\\`*<>|~#$&]|(?<!\w)_|_(?!\w)|\[(?![-−+.\d])|\](?=[(\[:])")
"""What Markdown, or the HTML in it, would take for its own; not a_name, nor an interval's brackets."""


def study_markdown(report: StudyReport) -> str:
    """The report as Markdown with GitHub's tables."""
    return "\n\n".join(_parts(report)) + "\n"


def _parts(report: StudyReport) -> Iterator[str]:
    yield f"# {_plain(report.title)}"
    if report.question:
        yield _plain(report.question)
    yield f"**{_plain(report.conclusion)}**"
    yield from (f"> **{_plain(note)}**" for note in random_notes(report))
    yield "## Ranking"
    yield markdown_table(ranking_rows(report))
    yield "\n".join(f"- {_plain(sentence)}" for sentence in method(report))
    yield from _comparisons(report)
    if report.by_class:
        yield "## Classes"
        yield markdown_table(class_rows(report))
    if any(run.cost for run in report.runs):
        yield "## Cost"
        yield markdown_table(cost_rows(report))
    yield "## Provenance"
    if facts := shared_facts(report):
        yield "All runs:"
        yield "\n".join(f"- {_plain(fact)}" for fact in facts)
    yield markdown_table(run_rows(report))
    yield f"This report: {_code(report.command)}"
    if notes := cautions(report):
        yield "## Notes"
        yield "\n".join(f"- {_plain(note)}" for note in notes)


def _comparisons(report: StudyReport) -> Iterator[str]:
    ranking = report.ranking
    if ranking.against_baseline:
        yield f"## Compared with {_plain(ranking.baseline)}"
        yield markdown_table(comparison_rows(report, ranking.against_baseline))
    if len(ranking.pairs) > len(ranking.against_baseline):
        yield "## All pairs"
        yield markdown_table(comparison_rows(report, ranking.pairs))


def markdown_table(rows: Rows) -> str:
    """A table whose columns are aligned in the source, too; figures stand to the right."""
    cells = [[_plain(cell) or " " for cell in row] for row in (rows.header, *rows.rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(rows.header))]
    right = [i in rows.numbers for i in range(len(widths))]
    columns = list(zip(widths, right, strict=True))
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in columns]
    padded = [
        [c.rjust(w) if r else c.ljust(w) for c, (w, r) in zip(row, columns, strict=True)]
        for row in cells
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:]))


def _plain(words: str) -> str:
    """Words as Markdown shows them unchanged, in one line."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(words.split()))


def _code(words: str) -> str:
    """Words as code; the fence is longer than any run of backticks in them."""
    fence = "`"
    while fence in words:
        fence += "`"
    room = " " * words.startswith("`") or " " * words.endswith("`")
    return f"{fence}{room}{' '.join(words.split())}{room}{fence}"
