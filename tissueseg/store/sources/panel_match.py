"""Which channels of an image file are those of a panel, by name, spelling or protein.

Names match whole, never in part: CD3 is not CD31. Whatever could be two things is refused, since a
network that is given another marker than it learnt says nothing of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tissueseg.contracts import Channel
from tissueseg.errors import TissueDataError

_HINT = (
    "list the file's channels in order as image.channels=[…], each wanted one by its name in the panel, "
    "null for those to leave out"
)


class PanelMatch(NamedTuple):
    """Where the channels of a panel lie in a file."""

    positions: tuple[int, ...]  # one a channel of the panel, in its order
    notes: tuple[str, ...]  # what was assumed


def match_panel(panel: Sequence[Channel], found: Sequence[Channel | None], file: str) -> PanelMatch:
    """Find every channel of a panel in a file.

    Args:
        panel: wanted, in order.
        found: channels of the file, in order; None for those to leave out.
        file: its name, for messages.

    Raises:
        TissueDataError: channels that are missing, or could be several of the file's.
    """
    places: dict[int, int] = {}
    for key in (_name, _spelling, _protein):
        for wanted, channel in enumerate(panel):
            if wanted not in places:
                places |= _place(wanted, channel, key, found, set(places.values()), file)
    if missing := [_shown(c) for i, c in enumerate(panel) if i not in places]:
        held = ", ".join(_shown(c) for c in found if c)
        raise TissueDataError(
            f"{file} lacks the channels {', '.join(missing)}, which the network was trained with; it "
            f"holds {held}: give an image that has them, or {_HINT}."
        )
    positions = tuple(places[i] for i in range(len(panel)))
    return PanelMatch(positions, _notes(panel, found, positions))


def spelling(name: str) -> str:
    """A name without case and separators; one between two digits stays, for CD3_1 is not CD31."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = re.sub(r"(?<=\d)[\W_]+(?=\d)", "\0", text)
    return re.sub(r"[^\w\0]|_", "", text)


def _place(
    wanted: int,
    channel: Channel,
    key: Callable[[Channel], str | None],
    found: Sequence[Channel | None],
    taken: set[int],
    file: str,
) -> dict[int, int]:
    """Where a channel lies by one criterion; empty: nowhere."""
    if (looked_for := key(channel)) is None:
        return {}
    alike = [i for i, c in enumerate(found) if c and i not in taken and key(c) == looked_for]
    if len(alike) > 1:
        listed = ", ".join(f"{_shown(c)} (no. {i + 1})" for i in alike if (c := found[i]))
        raise TissueDataError(
            f"{file}: {_shown(channel)} of the panel could be {listed} of its channels: {_HINT}."
        )
    return dict.fromkeys([wanted] * len(alike), *alike) if alike else {}


def _notes(
    panel: Sequence[Channel], found: Sequence[Channel | None], positions: Sequence[int]
) -> tuple[str, ...]:
    others = (
        f"channel {_shown(c)} is taken for {_shown(channel)}"
        for channel, place in zip(panel, positions, strict=True)
        if (c := found[place]) and spelling(c.name) != spelling(channel.name)
    )
    if list(positions) == list(range(len(found))):
        return tuple(others)
    listed = ", ".join(str(place + 1) for place in positions)
    return (f"channels no. {listed} of the {len(found)} in the SP image are taken", *others)


def _name(channel: Channel) -> str:
    return channel.name


def _spelling(channel: Channel) -> str | None:
    return spelling(channel.name) or None


def _protein(channel: Channel) -> str | None:
    return channel.uniprot


def _shown(channel: Channel) -> str:
    return " ".join(channel.name.split()) or "(no name)"
