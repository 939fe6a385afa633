"""`python -m tissueseg.doctor …`: what `train` would meet with the same words; exit 1: it would fail.

`doctor store=PATH` looks through a store alone, and leaves what it saw in `…_check` beside it; exit 1:
something looks wrong.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.command import run_command, tracked

_MARKS = {
    "ok": "[green]ok    [/green]",
    "notice": "[yellow]notice[/yellow]",
    "fail": "[red]FAIL  [/red]",
}


def doctor(config: DictConfig) -> None:
    """Print one line a finding, then what they come to."""
    if not OmegaConf.is_dict(config.store):
        _check_store(str(config.store))
        return
    from tissueseg.diagnosis import diagnose

    console, failed, topic = Console(highlight=False), 0, ""
    for finding in diagnose(config, Console(stderr=True)):
        failed += finding.state == "fail"
        shown = "" if finding.topic == topic else finding.topic
        topic = finding.topic
        console.print(f"{_MARKS[finding.state]} [bold]{shown:<10}[/bold]", end=" ")
        console.print(finding.says, markup=False, soft_wrap=True)
    if failed:
        console.print(
            f"\n{failed} {'finding' if failed == 1 else 'findings'} that would stop train."
        )
        sys.exit(1)
    console.print("\nNothing would stop train.")


def _check_store(path: str) -> None:
    from tissueseg.reporting.store_check import check_folder, report_check
    from tissueseg.store.tissues import TissueStore

    store = TissueStore(path)
    folder = check_folder(store.path)
    if not os.access(folder.parent, os.W_OK):  # others' stores may be looked through too
        folder = Path(folder.name)
    if report_check(store, Console(), tracked, folder):
        sys.exit(1)


if __name__ == "__main__":
    run_command("doctor", doctor)
