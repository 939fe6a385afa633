"""What every source of tissues gives to the command that writes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.checks import Tissue

_SHOWN = 4


class Source(Protocol):
    """Tissues one after the other, never all in memory; described completely before the first."""

    @property
    def mpp(self) -> float | None:
        """µm per pixel of every tissue."""
        ...

    @property
    def classes(self) -> Sequence[TissueClass]:
        """Ids 0 … n − 1, background first."""
        ...

    @property
    def panel(self) -> Sequence[Channel]:
        """SP channels in order; empty without SP."""
        ...

    @property
    def images(self) -> Sequence[str]:
        """Which of `he` and `sp` every tissue has."""
        ...

    @property
    def notices(self) -> Sequence[str]:
        """What was assumed or changed, one line each; complete after the last tissue."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[str, Tissue]]: ...


class Notices:
    """Collects what was assumed or changed, so that sixty tissues with one oddity make one line."""

    def __init__(self) -> None:
        self._general: list[str] = []
        self._counts: dict[str, dict[str, int]] = defaultdict(dict)

    def say(self, message: str) -> None:
        """Note something of the whole cohort."""
        self._general.append(message)

    def count(self, message: str, tissue: str, found: int = 1) -> None:
        """Note something of one tissue; `{n}` in the message becomes the sum over tissues."""
        if found:
            self._counts[message][tissue] = found

    def lines(self) -> tuple[str, ...]:
        """One line per kind of notice."""
        counted = (
            f"{message.format(n=sum(tissues.values()))} ({name_some(list(tissues))})"
            for message, tissues in self._counts.items()
        )
        return (*self._general, *counted)


def name_some(tissues: Sequence[str]) -> str:
    """Tissue names for a message, the first few of many."""
    noun = "tissue" if len(tissues) == 1 else "tissues"
    more = f" and {len(tissues) - _SHOWN} more" if len(tissues) > _SHOWN else ""
    return f"{noun} {', '.join(tissues[:_SHOWN])}{more}"
