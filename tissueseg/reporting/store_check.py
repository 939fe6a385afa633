"""What looks wrong in a store, said in the terminal and left beside it as a table and contact sheets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console

from tissueseg.inspection.findings import Finding
from tissueseg.inspection.overview import inspect_tissues
from tissueseg.inspection.summary import summary_rows, summary_table, write_summary
from tissueseg.reporting.contact_sheet import write_contact_sheets
from tissueseg.store.tissues import TissueStore

Track = Callable[[Sequence[str], str], Iterable[str]]
"""Wraps tissue names, to show progress of what the second argument says."""

_MARKS = {"warning": "[yellow]warning[/yellow]", "notice": "notice"}


def check_folder(store: Path) -> Path:
    """Where the table and the contact sheets of a store are put."""
    return store.with_name(f"{store.stem}_check")


def report_check(
    store: TissueStore, console: Console, track: Track, folder: Path | None = None
) -> int:
    """Inspect a store and say what was found.

    Args:
        store: any.
        console: to say it on.
        track: shows progress.
        folder: where `summary.csv` and contact sheets go; None: they are not made.

    Returns:
        How many warnings there are.
    """
    inspection = inspect_tissues(store, lambda names: track(list(names), "checking"))
    for finding in inspection.findings:
        _say(console, finding)
    rows = summary_rows(store, inspection)
    console.print(summary_table(rows))
    warnings = sum(finding.level == "warning" for finding in inspection.findings)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_summary(folder / "summary.csv", rows)
        sheets = write_contact_sheets(store, folder, lambda names: track(list(names), "drawing"))
        noun = "warning" if warnings == 1 else "warnings"
        console.print(f"{warnings or 'no'} {noun}; look at {sheets[0]}", soft_wrap=True)
    return warnings


def _say(console: Console, finding: Finding) -> None:
    console.print(f"{_MARKS[finding.level]}: ", end="", highlight=False)
    console.print(f"{finding.check}: {finding.says}", markup=False, highlight=False, soft_wrap=True)
