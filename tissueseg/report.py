"""`python -m tissueseg.report runs=…`: finished runs in, a comparison one can believe out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tissueseg.command import run_command
from tissueseg.composition import plain, require_values
from tissueseg.errors import ConfigError
from tissueseg.numbers import check_number, check_whole
from tissueseg.reporting import runs

if TYPE_CHECKING:
    from tissueseg.reporting.study.report import StudyReport


_SHOWN = ("arm", "score", "interval", "to baseline", "p (Holm)", "group")
"""Columns of the ranking that fit a terminal."""


def report(config: DictConfig) -> None:
    """Read runs, compare their arms, write and print what comes of it."""
    from tissueseg.reporting.records.run_record import read_runs
    from tissueseg.reporting.study.compare import Wanted, compare
    from tissueseg.reporting.study.files import write_report

    require_values(config)
    folders = _folders(config)
    _check_values(config)
    out = Path(config.out) if config.out is not None else folders[0] / "report"
    _check_out(out)
    records, unfinished = read_runs(folders)
    keys = ("metric", "baseline", "title", "level", "alpha", "replicates", "seed")
    wanted = Wanted(arms=_arms(config), **{key: config[key] for key in keys})
    command = " ".join(["python -m tissueseg.report", *sys.argv[1:]])
    found = compare(records, unfinished, wanted, command)
    _print(found, write_report(out, found))


def _print(found: StudyReport, files: Sequence[Path]) -> None:
    from tissueseg.reporting.study.method import cautions, random_notes
    from tissueseg.reporting.study.rows import ranking_rows

    console, rows = Console(), ranking_rows(found)
    table = Table(title=escape(found.title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = "left"
    shown = [i for i, name in enumerate(rows.header) if name in _SHOWN]
    for i in shown:
        table.add_column(escape(rows.header[i]), justify="right" if i in rows.numbers else "left")
    for row in rows.rows:
        table.add_row(*(escape(row[i]) for i in shown))
    console.print(table)
    for note in (*random_notes(found), *cautions(found)):
        console.print(f"[yellow]notice:[/yellow] {escape(note)}", soft_wrap=True, highlight=False)
    console.print(found.conclusion, soft_wrap=True, highlight=False, markup=False, style="bold")
    for file in files:
        console.print(f"  {file}", soft_wrap=True, highlight=False, markup=False)


def _folders(config: DictConfig) -> list[Path]:
    given: Any = plain(config)["runs"]
    named = given if isinstance(given, list) else [given]
    if not named or not all(isinstance(name, str) and name for name in named):
        raise ConfigError(f"runs={given}: wanted a folder, or several as in runs=[a,b].")
    for name in named:
        if not Path(name).is_dir():
            raise ConfigError(f"runs={name} is no folder: give one that holds run folders.")
    return [Path(name) for name in named]


def _arms(config: DictConfig) -> list[str] | None:
    arms = plain(config)["arms"]
    if arms is not None and not (isinstance(arms, list) and all(isinstance(a, str) for a in arms)):
        raise ConfigError(f"arms={arms}: wanted names as in arms=[a,b], or null for all.")
    return arms


def _check_values(config: DictConfig) -> None:
    for key in ("metric", "baseline", "out", "title"):
        if config[key] is not None and not isinstance(config[key], str):
            raise ConfigError(f"{key}={config[key]}: wanted text or null.")
    for key in ("level", "alpha"):
        check_number(key, config[key], above=0, below=1)
    check_whole("replicates", config.replicates, 100, 100_000)
    check_whole("seed", config.seed, 0)


def _check_out(out: Path) -> None:
    runs.check_writable(out, "out")
    if (out / runs.CONFIG).exists():
        raise ConfigError(f"out={out} is the folder of a run: choose another one.")


if __name__ == "__main__":
    run_command("report", report)
