"""Whole patients, put in an order and parted: what all rules that place tissues themselves share.

Patients are drawn by hashes of their names: one's place among the others depends on the seed and on
these names alone, in every release of numpy and whatever patients come later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

Patient = tuple[str, ...]
"""Tissues of one patient, sorted."""

_TIE = 1e-9


def in_order(patients: Mapping[str, str]) -> list[Patient]:
    """Patients in the order of their first tissue, of tissue name -> patient."""
    return list(_grouped(patients).values())


def in_drawn_order(patients: Mapping[str, str], seed: int) -> list[Patient]:
    """Patients in an order that is drawn, all orders being equally likely."""
    groups = _grouped(patients)
    return [groups[name] for name in sorted(groups, key=lambda name: (_drawn(name, seed), name))]


def tissues_of(groups: Sequence[Patient]) -> tuple[str, ...]:
    """All tissues of some patients, sorted."""
    return tuple(sorted(tissue for group in groups for tissue in group))


def consecutive(
    groups: Sequence[Patient], shares: Sequence[float], least: int = 0
) -> list[Sequence[Patient]]:
    """Cut a row of patients into parts: one goes to the part in which its middle tissue falls.

    Args:
        groups: in the order to be cut.
        shares: of the tissues for each part, scaled to sum 1.
        least: patients that each part gets, whatever its share; there must be as many.
    """
    tissues, bound, placed, end = sum(map(len, groups)), 0.0, 0, 0
    parts: list[Sequence[Patient]] = []
    for number, share in enumerate(shares, 1):
        bound += share / sum(shares) * tissues
        begin, stop = end, len(groups) - least * (len(shares) - number)
        while end < stop:
            due = end - begin < least or placed + len(groups[end]) / 2 <= bound + _TIE * tissues
            if not due and number < len(shares):
                break
            placed += len(groups[end])
            end += 1
        parts.append(groups[begin:end])
    return parts


def take(groups: Sequence[Patient], tissues: float, most: int) -> list[Patient]:
    """Choose patients that have, together, as nearly as can be a number of tissues; at least one.

    Of several choices that are equally near, the one that is complete first in the row counts: with one
    tissue a patient, the first patients.

    Args:
        groups: in drawn order.
        tissues: wanted.
        most: patients to take at most.
    """
    first: dict[int, _Chain] = {}  # tissues -> the choice that reached them first,
    fewest: dict[
        int, _Chain
    ] = {}  # and the one of fewest patients, for where the first has too many
    for group in groups:
        for before, chain in [(0, _NOBODY), *first.items()]:
            if before < tissues:  # more would only lead further away
                first.setdefault(before + len(group), chain.with_(group))
        for before, chain in [(0, _NOBODY), *fewest.items()]:
            longer = chain.with_(group)
            known = fewest.get(before + len(group))
            if before < tissues and (known is None or longer.count < known.count):
                fewest[before + len(group)] = longer
        if any(n == tissues and chain.count <= most for n, chain in first.items()):
            break
    reached = {n: chain for n, chain in fewest.items() if chain.count <= most}
    reached |= {n: chain for n, chain in first.items() if chain.count <= most}
    return reached[min(reached, key=lambda found: abs(found - tissues))].patients()


class _Chain(NamedTuple):
    """Some patients, the last one and those before."""

    count: int
    last: Patient
    before: _Chain | None

    def with_(self, patient: Patient) -> _Chain:
        return _Chain(self.count + 1, patient, self)

    def patients(self) -> list[Patient]:
        found, chain = [], self
        while chain is not None and chain.count:
            found.insert(0, chain.last)
            chain = chain.before
        return found


_NOBODY = _Chain(0, (), None)


def _grouped(patients: Mapping[str, str]) -> dict[str, Patient]:
    groups: dict[str, list[str]] = {}
    for tissue in sorted(patients):
        groups.setdefault(patients[tissue], []).append(tissue)
    return {patient: tuple(tissues) for patient, tissues in groups.items()}


def _drawn(patient: str, seed: int) -> bytes:
    return blake2b(patient.encode("utf-8", "surrogatepass"), key=str(seed).encode()).digest()
