"""What was assumed or changed on the way into a store, said once for all tissues it befell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

_SHOWN = 4


class Notices:
    """Counts what was assumed or changed in one tissue; `{n}` in a message becomes the count."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def count(self, message: str, found: int = 1) -> None:
        """Note something, unless it was not found at all."""
        if found:
            self.found[message] += found


def gather(notices: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """One line per kind of notice, so that sixty tissues with one oddity make one line.

    Args:
        notices: tissue -> message -> how often.
    """
    kinds: dict[str, dict[str, int]] = defaultdict(dict)
    for tissue, found in notices.items():
        for message, count in found.items():
            kinds[message][tissue] = count
    return tuple(
        f"{message.format(n=sum(tissues.values()))} ({name_some(tissues)})"
        for message, tissues in kinds.items()
    )


def name_some(tissues: Iterable[str]) -> str:
    """Tissue names for a message, the first few of many."""
    names = list(tissues)
    noun = "tissue" if len(names) == 1 else "tissues"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{noun} {', '.join(names[:_SHOWN])}{more}"
