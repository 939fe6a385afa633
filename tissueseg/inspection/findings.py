"""What an inspection says: one line each, sixty tissues with one oddity in one line together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from tissueseg.store.notices import name_some

Level = Literal["warning", "notice"]


class Finding(NamedTuple):
    """One line for the user."""

    level: Level
    check: str  # what was looked at: "masks", "size", "registration", …
    tissues: tuple[str, ...]  # those it is about, on its level; empty: the cohort
    says: str  # value, what is expected, what to do


class Oddity(NamedTuple):
    """What is odd about one tissue, before tissues with the same oddity are put together."""

    tissue: str
    level: Level
    check: str
    what: str  # the same words for every tissue that has it
    shown: str  # its value in this tissue, with unit
    advice: str  # what is expected and what to do
    weight: float  # how odd: the largest is shown for all


def group(oddities: Iterable[Oddity]) -> Iterator[Finding]:
    """One finding per kind of oddity, warnings first, each kind where it first occurs."""
    kinds: dict[tuple[str, str], list[Oddity]] = defaultdict(list)
    for oddity in oddities:
        kinds[oddity.check, oddity.what].append(oddity)
    findings = [_together(found) for found in kinds.values()]
    yield from sorted(findings, key=lambda finding: finding.level != "warning")


def _together(found: list[Oddity]) -> Finding:
    """Tissues that warn are named before those that are merely noticed."""
    ranked = sorted(found, key=lambda o: (o.level != "warning", -o.weight))
    worst = ranked[0]
    tissues = tuple(odd.tissue for odd in ranked if odd.level == worst.level)
    alike = all(oddity.shown == worst.shown for oddity in ranked)
    at_worst = "" if alike else f" at worst ({worst.tissue})"
    places = name_some(o.tissue for o in ranked)
    says = f"{worst.what} in {places}: {worst.shown}{at_worst}; {worst.advice}"
    return Finding(worst.level, worst.check, tissues, says)


def share(part: float, whole: float) -> str:
    """A percentage for a message, never rounded down to nothing."""
    percent = 100 * part / max(whole, 1)
    return "under 0.1 %" if 0 < percent < 0.1 else f"{percent:.3g} %"
