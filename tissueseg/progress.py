"""How far a command is, where someone is looking."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def tracked(items: Sequence[str], doing: str) -> Iterable[str]:
    """Show progress through some items, where someone is looking."""
    if not sys.stdout.isatty():
        return items
    from rich.progress import track

    return track(items, doing, transient=True)
