"""The files of a study's report in one folder: the page, the Markdown and the tables."""

from __future__ import annotations

from pathlib import Path

from tissueseg.errors import StoreWriteError
from tissueseg.reporting.study.markdown import study_markdown
from tissueseg.reporting.study.page import study_page
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.tables import write_study_tables

PAGE = "report.html"
MARKDOWN = "report.md"


def write_report(folder: Path, report: StudyReport) -> list[Path]:
    """Write `report.html` of less than 12 MB, `report.md`, four CSV tables and `report.json`.

    Args:
        folder: is made where it is missing; files of an earlier report are replaced.
        report: what they say.

    Returns:
        The files, the page first.

    Raises:
        StoreWriteError: the disk does not take them.
    """
    texts = {PAGE: study_page(report), MARKDOWN: study_markdown(report)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        tables = write_study_tables(folder, report)
    except OSError as error:
        raise StoreWriteError(
            f"cannot write the report to {folder}: {error}. Free space, or choose another folder."
        ) from error
    return [*(folder / name for name in texts), *tables]
