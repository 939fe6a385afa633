"""Which tissues train, which choose the epoch and which are reported; no patient on two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tissueseg.errors import SplitError


class Split(NamedTuple):
    """Tissue names of each side; `test` may be empty."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


def sequential_split(
    patients: Mapping[str, str],
    train: float,
    val: float,
    test: float = 0.0,
    *,
    stated: Mapping[str, str | None] | None = None,
) -> Split:
    """Split tissues in alphabetical order, whole patients at a time.

    The study's protocol: ids sorted, the first 80 % train, the rest validates. Patients are taken in
    the order of their first tissue, and one goes to the side in which its middle tissue falls.

    Args:
        patients: tissue name -> patient.
        train: share of the tissues that train.
        val: share that chooses the epoch.
        test: share that is only reported. The three are scaled to sum 1.
        stated: what the source says of each tissue; of no account here.

    Raises:
        SplitError: a side with a share above 0 gets no tissue.
    """
    groups: dict[str, list[str]] = {}
    for tissue in sorted(patients):
        groups.setdefault(patients[tissue], []).append(tissue)
    shares = {"train": train, "val": val, "test": test}
    _check_shares(shares)
    bounds = _cumulative(list(shares.values()))
    sides: tuple[list[str], ...] = ([], [], [])
    placed = 0
    for tissues in groups.values():
        middle = (placed + len(tissues) / 2) / len(patients)
        sides[next(i for i, bound in enumerate(bounds) if middle <= bound)].extend(tissues)
        placed += len(tissues)
    split = Split(*(tuple(side) for side in sides))
    check_split(split, patients, wanted=[side for side, share in shares.items() if share > 0])
    return split


def stated_split(
    patients: Mapping[str, str],
    train: Sequence[str],
    val: Sequence[str],
    test: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    *,
    stated: Mapping[str, str | None],
) -> Split:
    """Split tissues as their source does: published folds, or a column of its table.

    Args:
        patients: tissue name -> patient.
        train: what the source calls the splits or folds that train.
        val: those that choose the epoch.
        test: those that are only reported.
        leave_out: those that are not used.
        stated: tissue name -> split or fold of the source.

    Raises:
        SplitError: a tissue of a split that stands nowhere, or an unfit split (see `check_split`).
    """
    sides = {"train": train, "val": val, "test": test, "leave_out": leave_out}
    taken: dict[str, list[str]] = {side: [] for side in sides}
    for tissue in sorted(patients):
        places = [side for side, names in sides.items() if stated.get(tissue) in names]
        if len(places) != 1:
            found = sorted({str(name) for name in stated.values() if name is not None})
            raise SplitError(
                f"split: tissue {tissue} is in {stated.get(tissue)!r} of its source, which stands under "
                f"{' and '.join(places) or 'no side'}: give each of {found} to one of split.train, val, "
                "test, leave_out."
            )
        taken[places[0]].append(tissue)
    split = Split(*(tuple(taken[side]) for side in ("train", "val", "test")))
    check_split(split, patients)
    return split


def check_split(
    split: Split, patients: Mapping[str, str], wanted: Sequence[str] = ("train", "val")
) -> None:
    """Refuse a split with an empty side, an unknown tissue or a patient on two sides."""
    for side in wanted:
        if not getattr(split, side):
            raise SplitError(
                f"split: no tissue on side {side!r}: {len(patients)} tissues of "
                f"{len(set(patients.values()))} patients are too few for these shares; "
                f"change split.{side}."
            )
    seen: dict[str, str] = {}
    for side, tissues in split._asdict().items():
        for tissue in tissues:
            if tissue not in patients:
                raise SplitError(f"split.{side} names {tissue}, which the store does not hold.")
            other = seen.setdefault(patients[tissue], side)
            if other != side:
                raise SplitError(
                    f"split: patient {patients[tissue]} (tissue {tissue}) is on sides {other!r} and "
                    f"{side!r}: the scores would be leaked. Keep a patient's tissues together."
                )


def _check_shares(shares: Mapping[str, float]) -> None:
    if min(shares.values()) < 0 or shares["train"] <= 0 or shares["val"] <= 0:
        raise SplitError(f"split shares are {dict(shares)}: train and val must be > 0, test ≥ 0.")


def _cumulative(shares: Sequence[float]) -> list[float]:
    bounds, total = [], 0.0
    for share in shares:
        total += share / sum(shares)
        bounds.append(total + 1e-9)
    return [*bounds[:-1], float("inf")]
