"""What every source of tissues gives to the command that writes them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.planes import LazyTissue

_SHOWN = 4


class Source(Protocol):
    """Tissues that can be opened one by one, in any order; described completely before the first."""

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
    def tissues(self) -> Sequence[str]:
        """Names of all tissues, each once."""
        ...

    @property
    def notices(self) -> Sequence[str]:
        """What was assumed of the whole cohort, one line each."""
        ...

    @property
    def moments(self) -> Mapping[str, Mapping[str, Sequence[float]]]:
        """Quantile -> `mean`, `std` of every channel after clip and `log1p`, if the source has them."""
        ...

    def scale(self, tissue: str) -> float | None:
        """µm per pixel of one tissue; None: not known."""
        ...

    def files(self, tissue: str) -> Mapping[str, Path]:
        """Every file or folder a tissue comes from, by the name it is recorded under."""
        ...

    def open(self, tissue: str) -> LazyTissue:
        """One tissue, read as late as can be.

        Raises:
            TissueDataError: one line with tissue, file, what it got and what to do.
        """
        ...


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
