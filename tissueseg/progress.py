"""How far a command is, where someone is looking; and tables that keep their lines where nobody is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console

_OF_A_LOG = 120  # columns; names of tissues fit on their line


def table_console() -> Console:
    """Prints tables as wide as the terminal, and in a log or a pipe wide enough."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _OF_A_LOG
    return Console(width=wide)


def tracked(items: Sequence[str], doing: str) -> Iterable[str]:
    """Show progress through some items, where someone is looking."""
    if not sys.stdout.isatty():
        return items
    from rich.progress import track

    return track(items, doing, transient=True)
