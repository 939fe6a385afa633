"""SP channels as a description or an image file names them, and the conventions that fill gaps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tissueseg.contracts import Channel
from tissueseg.errors import ConfigError

DNA_UNIPROT = "P68431"
"""Histone H3.1: what stains of DNA are taken for, having no protein of their own (as in VirTues)."""

# https://www.uniprot.org/help/accession_numbers, with an isoform suffix
_ACCESSION = re.compile(
    r"([OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9]([A-Z][A-Z0-9]{2}[0-9]){1,2})(-[0-9]+)?"
)
_STAIN = r"([0-9]+Ir[ _-]?)?(DAPI|Hoechst|DNA|DRAQ5|HH3|H3|Histone[ _-]?H3)[ _-]?[0-9]*"
# the intercalator of imaging mass cytometry, by element or isotope: Iridium (V2), Ir191, 193Ir
_IRIDIUM = r"(Iridium([ _-]?[0-9]+)?|Ir[ _-]?19[13]|19[13][ _-]?Ir)([ _-]?\(V[0-9]+\))?"
_DNA = re.compile(f"{_STAIN}|{_IRIDIUM}", re.IGNORECASE)


@dataclass(frozen=True)
class ChannelList:
    """The `channels` of a description: a list by position, UniProt ids by name, or nothing."""

    where: str  # file and key, for messages
    listed: tuple[Channel | None, ...] | None = None  # None inside: leave this channel out
    uniprot: dict[str, str] | None = None  # for names that stand in the image files
    stated: frozenset[str] = frozenset()  # channels whose UniProt id it gives

    @classmethod
    def parse(cls, value: Any, where: str) -> ChannelList:
        """Check what the YAML says.

        Raises:
            ConfigError: naming the entry.
        """
        if isinstance(value, dict):
            ids = {str(name): _accession(i, f"{where}.{name}") for name, i in value.items()}
            known = {name: i for name, i in ids.items() if i}
            return cls(where, uniprot=known, stated=frozenset(known))
        if isinstance(value, list):
            listed = tuple(_channel(entry, f"{where}[{i}]") for i, entry in enumerate(value))
            check_unique([c.name for c in listed if c], where)
            if not any(listed):
                raise ConfigError(f"{where} names no channel.")
            entries = (entry for entry in value if isinstance(entry, dict))
            stated = frozenset(entry["name"] for entry in entries if entry.get("uniprot"))
            return cls(where, listed=listed, stated=stated)
        return cls(where)

    def panel(self, names: Sequence[str] | None, file: str) -> tuple[Channel | None, ...]:
        """Every channel of an image file, None for those to leave out.

        Args:
            names: channel names that stand in the file, if any.
            file: its name, for messages.
        """
        if self.listed is not None:
            self._check_order(names, file)
            return self.listed
        if names is None:
            raise ConfigError(
                f"{file} carries no channel names: list them in order, as {self.where}."
            )
        check_unique(names, file)
        known = self.uniprot or {}
        if strange := sorted(set(known) - set(names)):
            raise ConfigError(f"{self.where} has {strange}, but {file} holds {list(names)}.")
        return tuple(complete(name, known.get(name)) for name in names)

    def _check_order(self, names: Sequence[str] | None, file: str) -> None:
        listed = [c.name.lower() if c else "" for c in self.listed or ()]
        found = [name.lower() for name in names or ()]
        if sorted(found) == sorted(listed) and found != listed:
            raise ConfigError(
                f"{self.where} has another order than {file}, which holds {list(names or ())}: "
                "list the channels in the file's order."
            )


def complete(name: str, uniprot: str | None = None, nuclear: bool | None = None) -> Channel:
    """A channel with what convention knows of it: stains of DNA are nuclear and stand for H3."""
    dna = _DNA.fullmatch(name) is not None
    return Channel(
        name, uniprot or (DNA_UNIPROT if dna else None), dna if nuclear is None else nuclear
    )


def note_stains(channels: Iterable[Channel | None], stated: Collection[str]) -> list[str]:
    """A notice of the channels that `complete` took for stains of DNA; none without them.

    Args:
        channels: of a panel, None for those left out.
        stated: names of the channels whose accession the source itself gives.
    """
    taken = [c.name for c in channels if c and c.uniprot == DNA_UNIPROT and c.name not in stated]
    if not taken:
        return []
    return [f"nuclear channels {', '.join(taken)} stand for histone H3 ({DNA_UNIPROT})"]


def accession(text: str) -> str | None:
    """A UniProt accession, or None where the text is none."""
    return text if _ACCESSION.fullmatch(text) else None


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuse a panel with the same name twice: nothing could tell the channels apart."""
    if twice := [f"{name} ×{n}" for name, n in Counter(names).items() if n > 1]:
        raise ConfigError(
            f"{where} names channels more than once: {', '.join(twice)}. List `channels` in order in "
            "the description, each with a name of its own and null for those to leave out."
        )


def _channel(entry: Any, where: str) -> Channel | None:
    if entry is None:
        return None
    given = entry if isinstance(entry, dict) else {"name": entry}
    name, nuclear = given.get("name"), given.get("nuclear")
    if strange := sorted(str(key) for key in set(given) - {"name", "uniprot", "nuclear"}):
        raise ConfigError(
            f"{where} has the unknown keys {strange}: known are name, uniprot, nuclear."
        )
    if not isinstance(name, str) or not name or not isinstance(nuclear, bool | None):
        raise ConfigError(
            f"{where} is {entry!r}, wanted a name, or {{name: CD3, uniprot: P07766, nuclear: false}}."
        )
    return complete(name, _accession(given.get("uniprot"), where), nuclear)


def _accession(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not accession(value):
        raise ConfigError(
            f"{where}: {value!r} is no UniProt accession (such as P07766 or P08575-4)."
        )
    return value
