"""What looks wrong in a store, said in the terminal and left beside it as a table and contact sheets."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console

from tissueseg.errors import TissueDataError
from tissueseg.inspection.arrays import check_arrays
from tissueseg.inspection.findings import Finding
from tissueseg.inspection.overview import TissueFacts, judge, measure, shrink_images
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.inspection.summary import summary_rows
from tissueseg.reporting.contact_sheet import SIDE_PX, ContactSheets
from tissueseg.reporting.store_tables import summary_table, write_summary
from tissueseg.store.tissues import TissueStore

Track = Callable[[Sequence[str], str], Iterable[str]]
"""Wraps tissue names, to show progress of what the second argument says."""

_MARKS = {"warning": "[yellow]warning[/yellow]", "notice": "notice"}


def check_folder(store: Path) -> Path:
    """Where the table and the contact sheets of a store are put."""
    store = store.resolve() if store.name in ("", "..") else store
    return store.parent / f"{store.stem}_check"


def require_folder(folder: Path) -> None:
    """Refuse a folder that stands in the way or cannot be written; one that is not there may be made.

    Raises:
        TissueDataError: in one line.
    """
    try:
        if os.path.lexists(folder):
            with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell
                pass
    except OSError as error:
        raise _no_place(folder, error) from error


def report_check(
    store: TissueStore, console: Console, track: Track, folder: Path | None = None
) -> int:
    """Inspect a store and say what was found; `summary.csv` and contact sheets go to its check folder.

    Args:
        store: any.
        console: to say it on.
        track: shows progress.
        folder: another than the store's own check folder.

    Returns:
        How many warnings there are.

    Raises:
        StoreNotFoundError: arrays or attributes of the store are gone.
        TissueDataError: it was changed or cannot be read, or the folder cannot be written.
    """
    check_arrays(store)
    folder = _made(folder or check_folder(store.path))
    sheets, facts = ContactSheets(store, folder), {}
    for tissue in track(store.tissues, "checking"):
        facts[tissue] = _look_at(store, tissue, sheets)
    inspection = judge(store, facts)
    for finding in inspection.findings:
        _say(console, finding)
    rows = summary_rows(store, inspection)
    console.print(summary_table(rows))
    write_summary(folder / "summary.csv", rows)
    warnings = sum(finding.level == "warning" for finding in inspection.findings)
    noun = "warning" if warnings == 1 else "warnings"
    first = sheets.finish()[0]
    console.print(f"{warnings or 'no'} {noun}; look at {first}", markup=False, soft_wrap=True)
    return warnings


def _look_at(store: TissueStore, tissue: str, sheets: ContactSheets) -> TissueFacts:
    """Read one tissue, each array once; what is held of it is gone with the next."""
    pixels = TissuePixels(store, tissue)
    thumbnails = shrink_images(pixels, sheets.channels, SIDE_PX)
    facts = measure(pixels)
    sheets.add(pixels, thumbnails, facts.masks)
    return facts


def _made(folder: Path) -> Path:
    require_folder(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _no_place(folder, error) from error
    return folder


def _no_place(folder: Path, error: OSError) -> TissueDataError:
    return TissueDataError(
        f"{folder} is to hold the table and contact sheets of the check, but cannot be written "
        f"({error.strerror or error}): move it away or mend its permissions."
    )


def _say(console: Console, finding: Finding) -> None:
    console.print(f"{_MARKS[finding.level]}: ", end="", highlight=False)
    console.print(f"{finding.check}: {finding.says}", markup=False, highlight=False, soft_wrap=True)
