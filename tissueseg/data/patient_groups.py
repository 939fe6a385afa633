"""Whole patients, put in an order and parted: what all rules that place tissues themselves share.

Patients are drawn by hashes of their names: one's place among the others depends on the seed and on
these names alone, in every release of numpy and whatever patients come later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

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
    first = {0: _NOBODY}  # tissues -> the choice that reached them first,
    fewest = {0: _NOBODY}  # and the one of fewest patients, for where the first has too many
    may_grow = math.ceil(tissues)  # choices of fewer tissues: more would only lead further away
    counts = np.full(may_grow + max(map(len, groups)), len(groups) + 1)  # patients of the fewest
    counts[0], place = 0, {0: 0}  # the latter: in which order they were reached
    nearest = round(tissues) if abs(round(tissues) - tissues) < 0.5 else 0  # else two are as near
    for group in groups:
        before = np.flatnonzero(counts[:may_grow] + 1 < counts[len(group) :][:may_grow])
        counts[before + len(group)] = counts[before] + 1
        before = sorted(before.tolist(), key=place.__getitem__)
        longer = {n + len(group): fewest[n].with_(group) for n in before}
        for n, reached in zip(before, longer, strict=True):
            first.setdefault(reached, first[n].with_(group))
            place.setdefault(reached, len(place))
        fewest |= longer
        if 0 < first.get(nearest, _NOBODY).count <= most:
            break
    fit = {n: chain for n, chain in fewest.items() if 0 < chain.count <= most}
    fit |= {n: chain for n, chain in first.items() if 0 < chain.count <= most}
    return fit[min(fit, key=lambda found: abs(found - tissues))].patients()


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
            found.append(chain.last)
            chain = chain.before
        return found[::-1]


_NOBODY = _Chain(0, (), None)


def _grouped(patients: Mapping[str, str]) -> dict[str, Patient]:
    groups: dict[str, list[str]] = {}
    for tissue in sorted(patients):
        groups.setdefault(patients[tissue], []).append(tissue)
    return {patient: tuple(tissues) for patient, tissues in groups.items()}


def _drawn(patient: str, seed: int) -> bytes:
    return blake2b(patient.encode("utf-8", "surrogatepass"), key=str(seed).encode()).digest()
